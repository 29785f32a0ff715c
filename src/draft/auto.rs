//! Draft as much as pays.

mod drift;

use self::drift::Drift;
use super::{
    DraftContext, DraftError, DraftLimits, Drafted, Drafter, Outcome, Recording, StepCosts,
};
use crate::tree::{AcceptanceRates, MAX_PLANNED_DEPTH, MAX_PLANNED_NODES, OptimalShape};

/// Holds a drafter to the tree that gives most tokens for its cost, which may be none.
///
/// What drafting and verifying cost is measured before ([`StepCosts`]); how often drafts are kept is counted while
/// decoding, by rank and depth. From both follows the tree with the most expected tokens a second
/// ([`OptimalShape`]), whose number of nodes and levels, and whether it branches, bound the drafter's own tree.
///
/// Where no tree pays, tokens are decoded plainly, and a small draft is tried now and then. An account of what drafts
/// have cost and gained bounds the loss: steps never come to more than 3 % and half a step above plain decoding, by the
/// measured costs and whatever the drafter proposes.
///
/// Decisions depend on the costs that were given and on tokens alone, never on the clock, so that the same costs
/// give the same drafts; unless [`by_the_clock`](Self::by_the_clock) corrects the costs.
pub struct Auto {
    name: String,
    inner: Box<dyn Drafter>,
    given: StepCosts,
    costs: StepCosts,     // corrected by the clock
    drift: Option<Drift>, // where the clock counts
    factor: f64,          // of costs over those given
    rates: AcceptanceRates,
    account: Account,
    plan: Plan,
    planned: u32, // steps since
    pause: u32,   // steps from one try to the next
    waited: u32,
    steps: u64,
    tries: u64,
    asked: Ask, // in this step
}

/// Of what plain decoding costs, how much more drafts may cost.
const SHARE: f64 = 0.03;
/// Plain steps' worth of costs beyond that: with it, an answer of 25 tokens is at most 5 % slower.
const CREDIT: f64 = 0.5;
/// Plain steps' worth of gains that may be lost again.
const BANK: f64 = 16.0;
/// First guess of how often the likeliest, second, ... child is kept: what decides the first steps.
const GUESS: [f64; 4] = [0.5, 0.1, 0.05, 0.03];
/// What a visit weighs after one more step: some 20 steps count.
const KEEP: f64 = 0.95;
/// Steps from one try to the next: at first, and at most.
const PAUSES: [u32; 2] = [8, 256];
/// Steps after which the tree is chosen anew, where it still fits and the account still allows it.
const PLAN_STEPS: u32 = 8;
/// Drafted tokens of a try.
const TRY_DEPTH: usize = 2;

/// Steps' costs against those of plain decoding of the same tokens. // seconds
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    debt: f64, // costs beyond plain decoding's, with gains bounded
    spent: f64,
    tokens: f64,
}

impl Account {
    fn add(&mut self, cost: f64, tokens: usize, plain: f64) {
        self.spent += cost;
        self.tokens += tokens as f64;
        self.debt = (self.debt + cost - plain * tokens as f64).max(-BANK * plain);
    }

    /// How much dearer than a plain step the next one may be.
    fn budget(&self, plain: f64) -> f64 {
        (plain * (SHARE * self.tokens + CREDIT) - self.debt).max(0.0)
    }
}

/// What was decided, and what it promises.
#[derive(Clone, Debug)]
struct Plan {
    ask: Ask,
    tokens: f64,
    rate: f64, // tokens a second
}

/// A bound on a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ask {
    nodes: usize,
    depth: usize,
    branches: bool,
}

const PLAIN: Ask = Ask {
    nodes: 1,
    depth: 0,
    branches: false,
};

impl Auto {
    /// Holds `inner` to what pays by `costs`.
    pub fn new(inner: Box<dyn Drafter>, costs: StepCosts) -> Self {
        Self {
            name: format!("{} auto", inner.name()),
            inner,
            plan: Plan {
                ask: PLAIN,
                tokens: 1.0,
                rate: 1.0 / costs.plain(),
            },
            given: costs.clone(),
            costs,
            drift: None,
            factor: 1.0,
            rates: AcceptanceRates::new(&GUESS, KEEP),
            account: Account::default(),
            planned: PLAN_STEPS,
            pause: PAUSES[0],
            waited: 0,
            steps: 0,
            tries: 0,
            asked: PLAIN,
        }
    }

    /// Lets the times of steps correct the costs, where [`Outcome::time`] tells them: measured costs are those of
    /// another moment. Drafts then depend on the clock, and with them the bits of texts that trees give.
    pub fn by_the_clock(self) -> Self {
        Self {
            drift: Some(Drift::default()),
            ..self
        }
    }

    /// Whether the last plan was to draft.
    pub fn speculates(&self) -> bool {
        self.plan.ask != PLAIN
    }

    /// What steps have cost by the measured costs, over what plain decoding would have cost for the same tokens;
    /// 1 before the first.
    pub fn cost_ratio(&self) -> f64 {
        match self.account.tokens {
            0.0 => 1.0,
            tokens => self.account.spent / (self.costs.plain() * tokens),
        }
    }

    /// The tree that pays most among those that the account allows and that fit.
    fn plan(&self, max_nodes: usize, max_depth: usize) -> Plan {
        let limits = self.inner.limits();
        let chain = self.plan_of(max_nodes, max_depth, limits, false);
        let tree = (limits.branches).then(|| self.plan_of(max_nodes, max_depth, limits, true));
        match tree.flatten() {
            Some(tree) if chain.as_ref().is_none_or(|chain| tree.rate > chain.rate) => tree,
            // Costs and rates are in their ranges; without a shape nothing is drafted.
            _ => chain.unwrap_or_else(|| self.plan.clone()),
        }
    }

    /// The chain or the tree that pays most: trees cost what growing them does.
    fn plan_of(
        &self,
        max_nodes: usize,
        max_depth: usize,
        limits: DraftLimits,
        branches: bool,
    ) -> Option<Plan> {
        let plain = self.costs.plain();
        let verify = self.costs.verify();
        let draft = self.costs.drafting(branches);
        let nodes = verify.len().min(max_nodes).min(limits.nodes);
        let nodes = nodes.clamp(1, MAX_PLANNED_NODES);
        let depth = max_depth
            .min(limits.depth)
            .saturating_add(1)
            .min(draft.len());
        let depth = depth.min(MAX_PLANNED_DEPTH).min(nodes).max(1);
        let most = plain + self.account.budget(plain);
        let mut rates = self.rates.rates_by_depth();
        if !branches {
            rates.iter_mut().for_each(|ranks| ranks.truncate(1));
        }
        let shape = OptimalShape::within(&rates, &draft[..depth], &verify[..nodes], most);
        let shape = shape.ok()?;
        let mut levels = vec![0; shape.parents.len()];
        let mut children = vec![0; shape.parents.len()];
        for node in 1..shape.parents.len() {
            let parent = shape.parents[node] as usize;
            levels[node] = levels[parent] + 1;
            children[parent] += 1;
        }
        Some(Plan {
            ask: Ask {
                nodes: shape.parents.len(),
                depth: levels.into_iter().max().unwrap_or(0),
                branches: children.into_iter().max().unwrap_or(0) > 1,
            },
            tokens: shape.expected_tokens,
            rate: shape.rate,
        })
    }

    /// Takes from the clock what drafts cost. The last ones were booked at other costs.
    fn correct(&mut self) {
        let Some(drift) = &self.drift else { return };
        let factor = drift.factor();
        self.account.debt += (factor - self.factor) * drift.drafted();
        self.factor = factor;
        self.costs = self.given.with_drafts_times(factor);
    }

    /// Whether a tree fits, and the account allows it.
    fn allows(&self, ask: Ask, context: &DraftContext<'_>) -> bool {
        let plain = self.costs.plain();
        let cost = self.costs.step_of(ask.nodes, ask.depth, ask.branches);
        let fits = ask.nodes <= context.max_nodes && ask.depth <= context.max_depth;
        fits && cost <= plain + self.account.budget(plain)
    }

    /// A small chain, where it is time for one and the account allows it.
    fn try_out(&mut self) -> Option<Ask> {
        self.waited += 1;
        if self.waited < self.pause {
            return None;
        }
        let plain = self.costs.plain();
        let most = plain + self.account.budget(plain);
        let depth = (1..=TRY_DEPTH.min(self.costs.draft().len() - 1)).rev();
        let mut depth = depth.filter(|depth| *depth < self.costs.verify().len());
        let depth = depth.find(|depth| self.costs.step(depth + 1, *depth) <= most)?;
        Some(Ask {
            nodes: depth + 1,
            depth,
            branches: false,
        })
    }
}

impl Drafter for Auto {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> DraftLimits {
        self.inner.limits()
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        self.planned += 1;
        if self.planned >= PLAN_STEPS || !self.allows(self.plan.ask, context) {
            self.correct();
            self.plan = self.plan(context.max_nodes, context.max_depth);
            self.planned = 0;
        }
        let mut ask = self.plan.ask;
        if ask == PLAIN {
            ask = self.try_out().unwrap_or(PLAIN);
        }
        self.asked = ask;
        self.inner.draft(&DraftContext {
            max_nodes: context.max_nodes.min(ask.nodes),
            max_depth: context.max_depth.min(ask.depth),
            branches: context.branches && ask.branches,
            ..*context
        })
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        self.inner.record(recording)
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.inner.observe(outcome);
        let (nodes, kept) = (outcome.drafted + 1, outcome.accepted.len());
        // A tree that came out flatter than it might has been drafted to the full depth all the same.
        let depth = match outcome.drafted {
            0 => 0,
            _ => outcome.depth.max(self.asked.depth),
        };
        let branches = self.asked.branches;
        if let (Some(drift), Some(time)) = (&mut self.drift, outcome.time) {
            let expected = self.given.step_of(nodes, depth, branches);
            drift.add(nodes > 1, time.as_secs_f64(), expected);
        }
        let cost = self.costs.step_of(nodes, depth, branches);
        self.account.add(cost, kept + 1, self.costs.plain());
        self.steps += 1;
        if outcome.drafted == 0 {
            return;
        }
        self.rates.observe(outcome.tree, outcome.path);
        if self.plan.ask != PLAIN {
            self.pause = PAUSES[0];
            self.waited = 0;
            return;
        }
        self.tries += 1;
        self.waited = 0;
        if kept > 0 {
            // Rates rose: it may pay again.
            self.planned = PLAN_STEPS;
        }
        // One that was kept is followed up at once.
        self.pause = match kept {
            0 => (self.pause.max(PAUSES[0] / 2) * 2).min(PAUSES[1]),
            _ => 1,
        };
    }

    fn explain(&self) -> Option<String> {
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        let some = |costs: &[f64], first: usize| {
            let powers = (0..)
                .map(|power| 1 << power)
                .take_while(|at| *at < costs.len() + first);
            let of = |at: usize| format!("{at}: {}", ms(costs[at - first]));
            powers.map(of).collect::<Vec<_>>().join(", ")
        };
        let rates = self.rates.rates_by_depth();
        let rates = rates.iter().enumerate().take(6).map(|(depth, ranks)| {
            let ranks = ranks.iter().map(|rate| format!("{:.0} %", rate * 100.0));
            let name = match depth + 1 == rates.len() {
                true => "deeper".to_owned(),
                false => format!("depth {}", depth + 1),
            };
            format!("{name}: {}", ranks.collect::<Vec<_>>().join(" "))
        });
        let plain = 1.0 / self.costs.plain();
        let Plan { ask, tokens, rate } = &self.plan;
        let choice = match *ask {
            PLAIN => format!(
                "no drafts: by these costs and rates none is expected to give more than the {plain:.1} \
                 tokens/s of plain decoding; a small one is tried every {} steps",
                self.pause
            ),
            ask => format!(
                "{} of {} nodes, {} deep: {tokens:.2} tokens in {} expected, {rate:.1} tokens/s against \
                 {plain:.1} of plain decoding",
                if ask.branches { "a tree" } else { "a chain" },
                ask.nodes,
                ask.depth,
                ms(tokens / rate),
            ),
        };
        let clock = match self.drift.as_ref().map(Drift::factor) {
            Some(factor) if factor != 1.0 => {
                format!("clock       drafts cost {factor:.2} times as much\n")
            }
            _ => String::new(),
        };
        let growing = match self.costs.drafting(true) == self.costs.draft() {
            true => String::new(),
            false => format!("trees       {}\n", some(self.costs.drafting(true), 0)),
        };
        Some(format!(
            "verifying   {}\ndrafting    0: {}, {}\n{growing}kept        {}\n{clock}choice      {choice}\n\
             so far      {} steps, {} of them tries, {:.2} times the cost of plain decoding\n",
            some(self.costs.verify(), 1),
            ms(self.costs.draft()[0]),
            some(self.costs.draft(), 0),
            rates.collect::<Vec<_>>().join("; "),
            self.steps,
            self.tries,
            self.cost_ratio(),
        ))
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests;
