//! Measuring what drafting and verifying cost.

use web_time::{Duration, Instant};

use super::{GenerateError, Session, TokenChoice, step::Drafting};
use crate::{
    draft::{DraftContext, DraftCost, Drafted, Features, StepCosts},
    model::StepKind,
    tree::DraftTree,
};

/// Tokens of the prompt behind which steps are measured.
const PROMPT: u32 = 64;
/// Times that each step is measured, of which the fastest counts: others on the machine only make it slower.
const ROUNDS: usize = 4;
/// Time after which no further round is begun: a slow adapter's steps are long, and so less disturbed.
const ENOUGH: Duration = Duration::from_secs(4);
/// Sizes that are measured however slow steps are.
const FEWEST: usize = 4;

impl Session {
    /// Measures what steps of this model cost on this device with this drafter, from drafting nothing to as much
    /// as it can draft ([`Drafter::limits`](crate::draft::Drafter::limits)) and one step verifies. Takes some dozens of
    /// steps, and where they are slow, fewer. The sequence is forgotten; the steps are greedy.
    ///
    /// # Errors
    /// The drafter's and the device's errors.
    pub async fn measure_costs(&mut self) -> Result<StepCosts, GenerateError> {
        let (choice, grammar) = (self.choice, self.grammar.take());
        self.choice = TokenChoice::default();
        let measured = self.measure().await;
        self.choice = choice;
        self.grammar = grammar;
        self.reset();
        measured
    }

    async fn measure(&mut self) -> Result<StepCosts, GenerateError> {
        let vocabulary = self.decoder.hyperparameters().vocabulary;
        let most = self.decoder.options().max_draft + 1;
        let room = self.decoder.options().context.saturating_sub(most).max(1);
        let prompt = PROMPT.min(room);
        // Tokens far apart, so that they are not of one kind.
        let token = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) % vocabulary;
        let prompt: Vec<u32> = (0..prompt).map(token).collect();
        self.reset();
        self.decoder.compiled().await?;
        self.read_prompt(&prompt, &mut |_, _| ()).await?;

        let limits = self.drafter.limits();
        let most = limits.nodes.clamp(1, most as usize);
        let mut sizes = sizes(most);
        // A draft that costs nothing costs as much whatever its size.
        let levels = match limits.cost {
            DraftCost::Free => vec![0],
            _ => levels(limits.depth.min(most - 1)),
        };
        let mut verify = vec![f64::INFINITY; sizes.len()];
        // What grows level by level may do so in another way where it branches.
        let grows = limits.branches && limits.cost == DraftCost::PerLevel;
        let mut chains = Drafts::new(&levels, false);
        let mut trees = grows.then(|| Drafts::new(&levels, true));
        let start = Instant::now();
        // The first round compiles and warms up; turns are taken, so that a busy moment does not meet one size.
        for round in 0..=ROUNDS {
            if round > 1 && start.elapsed() > ENOUGH {
                break;
            }
            for i in 0..sizes.len() {
                // In a browser everything was compiled before: it is the steps themselves that are slow.
                let slow = cfg!(target_arch = "wasm32") && start.elapsed() > ENOUGH;
                if round == 0 && i >= FEWEST && slow {
                    sizes.truncate(i);
                    break;
                }
                let nodes = sizes[i];
                let tokens: Vec<u32> = (0..nodes as u32).map(token).collect();
                let tree = DraftTree::chain(tokens[0], &tokens[1..])?;
                let seconds = self.time(&tree, Drafting::Nothing).await?;
                if round > 0 {
                    verify[i] = verify[i].min(seconds);
                }
            }
            for drafts in std::iter::once(&mut chains).chain(&mut trees) {
                for (i, &depth) in levels.iter().enumerate() {
                    let (seconds, nodes, depth) =
                        self.time_draft(most, depth, drafts.branches).await?;
                    let of_nodes = sizes.iter().position(|size| *size >= nodes);
                    let verifying = verify[of_nodes.unwrap_or(sizes.len() - 1)];
                    if round > 0 {
                        drafts.depths[i] = depth;
                        drafts.seconds[i] = drafts.seconds[i].min((seconds - verifying).max(0.0));
                    }
                }
            }
        }
        let verify: Vec<_> = sizes.iter().copied().zip(verify).collect();
        let mut chains = chains.by_depth();
        // One that is free, or had nothing to propose here, drafts on the host, in no time.
        if chains.len() == 1 {
            chains.push((most.max(2) - 1, chains[0].1));
        }
        let mut costs = StepCosts::new(&verify, &chains);
        if let (Some(known), Some(trees)) = (&costs, trees) {
            costs = known.clone().with_branching(&trees.by_depth());
        }
        costs.ok_or(GenerateError::NoCosts)
    }

    /// Seconds of a step with a draft of at most `depth` levels, and the nodes and levels it had.
    async fn time_draft(
        &mut self,
        most: usize,
        depth: usize,
        branches: bool,
    ) -> Result<(f64, usize, usize), GenerateError> {
        let start = Instant::now();
        let context = DraftContext {
            features: Features::before(self.past, &self.kept),
            branches,
            ..DraftContext::new(
                &self.committed,
                if branches { most } else { depth + 1 },
                depth,
            )
        };
        let drafted = self.drafter.draft(&context)?;
        let drafting = match &drafted {
            Drafted::OnHost(_) => Drafting::Nothing,
            Drafted::OnGpu(_) => Drafting::Draft,
            Drafted::Grown(_) => Drafting::Grow,
        };
        let host = start.elapsed().as_secs_f64();
        let tree = drafted.tree();
        let seconds = self.time(tree, drafting).await?;
        Ok((host + seconds, tree.len(), drafted.depth()))
    }

    /// Seconds of a step that is not kept.
    async fn time(&mut self, tree: &DraftTree, drafting: Drafting) -> Result<f64, GenerateError> {
        let (past, kept) = (self.past, self.kept.clone());
        let start = Instant::now();
        let kind = match drafting {
            Drafting::Grow => StepKind::Tree,
            _ => StepKind::Chain,
        };
        self.submit(tree, kind, drafting, None).await?;
        let seconds = start.elapsed().as_secs_f64();
        self.set_past(past);
        // The rows of the prompt are overwritten, but cost the drafter what they did.
        self.kept = kept;
        Ok(seconds)
    }
}

/// The fastest drafts to some depths.
struct Drafts {
    branches: bool,
    depths: Vec<usize>, // that they had
    seconds: Vec<f64>,
}

impl Drafts {
    fn new(levels: &[usize], branches: bool) -> Self {
        Self {
            branches,
            depths: vec![0; levels.len()],
            seconds: vec![f64::INFINITY; levels.len()],
        }
    }

    /// Each depth once.
    fn by_depth(self) -> Vec<(usize, f64)> {
        let mut drafts: Vec<(usize, f64)> = Vec::new();
        for (depth, seconds) in self.depths.into_iter().zip(self.seconds) {
            match drafts.iter_mut().find(|(at, _)| *at == depth) {
                Some((_, before)) => *before = before.min(seconds),
                None => drafts.push((depth, seconds)),
            }
        }
        drafts
    }
}

/// Depths of drafts to measure, up to `most`.
fn levels(most: usize) -> Vec<usize> {
    sizes(most + 1).into_iter().map(|size| size - 1).collect()
}

/// Numbers of nodes to measure, up to `most`.
fn sizes(most: usize) -> Vec<usize> {
    let steps = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
    let mut sizes: Vec<usize> = steps.into_iter().filter(|size| *size < most).collect();
    sizes.push(most);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_depths_end_at_the_most_that_can_be() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(5), [1, 2, 3, 4, 5]);
        assert_eq!(sizes(16), [1, 2, 3, 4, 6, 8, 12, 16]);
        assert_eq!(levels(0), [0]);
        assert_eq!(levels(4), [0, 1, 2, 3, 4]);
    }
}
