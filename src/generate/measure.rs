//! Measuring what drafting and verifying cost.

use web_time::Instant;

use super::{GenerateError, Session, TokenChoice, step::Drafting};
use crate::{
    draft::{DraftContext, Drafted, Features, StepCosts},
    model::StepKind,
    tree::DraftTree,
};

/// Tokens of the prompt behind which steps are measured.
const PROMPT: u32 = 64;
/// Times that each step is measured, of which the fastest counts: others on the machine only make it slower.
const ROUNDS: usize = 4;

impl Session {
    /// Measures what steps of this model cost on this device with this drafter, from drafting nothing to as much
    /// as one step verifies. Takes some dozens of steps. The sequence is forgotten; the steps are greedy.
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
        self.read_prompt(&prompt, &mut |_, _| ()).await?;

        let sizes = sizes(most as usize);
        let mut verify = vec![f64::INFINITY; sizes.len()];
        let mut draft = vec![f64::INFINITY; sizes.len()];
        let mut depths = vec![0; sizes.len()];
        // The first round compiles and warms up; turns are taken, so that a busy moment does not meet one size.
        for round in 0..=ROUNDS {
            for (i, &nodes) in sizes.iter().enumerate() {
                let tokens: Vec<u32> = (0..nodes as u32).map(token).collect();
                let tree = DraftTree::chain(tokens[0], &tokens[1..])?;
                let seconds = self.time(&tree, Drafting::Nothing).await?;
                if round > 0 {
                    verify[i] = verify[i].min(seconds);
                }
            }
            for (i, &nodes) in sizes.iter().enumerate() {
                let (seconds, nodes, depth) = self.time_draft(nodes - 1).await?;
                let of_nodes = sizes.iter().position(|size| *size >= nodes);
                let verifying = of_nodes.map_or(0.0, |i| verify[i]);
                if round > 0 {
                    depths[i] = depth;
                    draft[i] = draft[i].min((seconds - verifying).max(0.0));
                }
            }
        }
        let verify: Vec<_> = sizes.iter().copied().zip(verify).collect();
        let mut drafts: Vec<(usize, f64)> = Vec::new();
        for (depth, seconds) in depths.into_iter().zip(draft) {
            match drafts.iter_mut().find(|(at, _)| *at == depth) {
                Some((_, before)) => *before = before.min(seconds),
                None => drafts.push((depth, seconds)),
            }
        }
        // One that had nothing to propose here does so on the host, in no time.
        if drafts.len() == 1 {
            drafts.push((most as usize - 1, drafts[0].1));
        }
        let costs = StepCosts::new(&verify, &drafts);
        costs.ok_or(GenerateError::NoCosts)
    }

    /// Seconds of a step with a draft of at most `depth` levels, and the nodes and levels it had.
    async fn time_draft(&mut self, depth: usize) -> Result<(f64, usize, usize), GenerateError> {
        let start = Instant::now();
        let context = DraftContext {
            features: Features::before(self.past, &self.kept),
            branches: false,
            ..DraftContext::new(&self.committed, depth + 1, depth)
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

/// Numbers of nodes to measure, up to `most`.
fn sizes(most: usize) -> Vec<usize> {
    let steps = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
    let mut sizes: Vec<usize> = steps.into_iter().filter(|size| *size < most).collect();
    sizes.push(most);
    sizes
}
