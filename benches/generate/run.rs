//! The measurement of answers.

use std::time::Instant;

use sunfleck::{
    draft::{Auto, Drafter, NoDrafter, StepCosts},
    generate::Session,
    model::ChatTemplate,
};

use crate::{
    arguments::Arguments,
    contenders::{Contender, Loading, Tree},
    device::Machine,
    prompts::{self, Prompt},
    report::{Beside, Report, Row},
};

/// Most drafted tokens of any contender.
pub const MAX_DRAFT: u32 = 31;

/// Counts and times of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answered {
    /// Tokens that steps gave.
    pub tokens: usize,
    /// Steps.
    pub steps: usize,
    /// Drafted tokens.
    pub drafted: usize,
    /// Drafted tokens that were kept and are part of the answer.
    pub kept: usize,
    /// Seconds of the steps.
    pub seconds: f64,
    /// Of these, what drafting took: on the host as measured, on the GPU by the cost of so many levels.
    pub draft_seconds: f64,
}

impl Answered {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.steps += other.steps;
        self.drafted += other.drafted;
        self.kept += other.kept;
        self.seconds += other.seconds;
        self.draft_seconds += other.draft_seconds;
    }

    /// Drafted tokens kept a step.
    pub fn kept_per_step(&self) -> f64 {
        self.kept as f64 / self.steps.max(1) as f64
    }
}

/// Answers the prompts with each contender; `save` is given the report after every prompt. `earlier` has the answers of
/// an interrupted run.
pub async fn run(
    arguments: &Arguments,
    contenders: &[Contender],
    earlier: impl FnOnce(&Report) -> Option<Report>,
    save: &mut dyn FnMut(&Report) -> Result<(), String>,
) -> Result<Report, String> {
    let prompts = prompts::chosen(arguments.prompts, arguments.kind.as_deref())?;
    let (mut machine, decoder) = Machine::open(MAX_DRAFT).await?;
    let template = ChatTemplate::from_gguf(&machine.gguf).map_err(|error| error.to_string())?;
    let mut session = Session::new(&machine.gpu, decoder, Box::new(NoDrafter));
    let (entries, left_out) = entries(&mut session, &mut machine, arguments, contenders).await?;
    let (mut drafters, rows): (Vec<Entry>, Vec<Row>) = entries.into_iter().unzip();
    let mut report = Report {
        adapter: machine.info.clone(),
        model: machine.model.clone(),
        prompts: Vec::new(),
        tokens: arguments.tokens,
        past_end: arguments.past_end,
        vocabulary: arguments.vocabulary_text(),
        rows: std::iter::once(Row::plain()).chain(rows).collect(),
        left_out,
    };
    if let Some(earlier) = earlier(&report) {
        eprintln!("{} prompts were answered before", earlier.prompts.len());
        report = earlier;
    }
    let ends = match arguments.past_end {
        true => Vec::new(),
        false => machine.tokenizer.end_tokens(),
    };
    for prompt in &prompts {
        if report.prompts.contains(&prompt.id) {
            continue;
        }
        eprint!("{}:", prompt.id);
        let turn = template.user_turn(&machine.tokenizer, &prompt.text);
        let tokens = turn.map_err(|error| error.to_string())?;
        let task = Task {
            prompt: &tokens,
            tokens: arguments.tokens,
            ends: &ends,
        };
        let (before, text) = task.answer(&mut session, None).await?;
        let mut answers = Vec::new();
        for entry in &mut drafters {
            let drafter = std::mem::replace(&mut entry.drafter, Box::new(NoDrafter));
            session.set_drafter(drafter);
            let (answered, own) = task.answer(&mut session, Some(&entry.costs)).await?;
            entry.drafter = session.set_drafter(Box::new(NoDrafter));
            eprint!(" {:.2}", answered.kept_per_step());
            answers.push((answered, own == text));
        }
        eprintln!();
        let (after, _) = task.answer(&mut session, None).await?;
        // Plain decoding around the contenders.
        let mut plain = before;
        plain.add(after);
        answers.insert(0, (plain, true));
        for (row, (own, same)) in report.rows.iter_mut().zip(answers) {
            let Prompt { id, kind, .. } = prompt.clone();
            row.answers.push(Beside {
                prompt: id,
                kind,
                own,
                plain,
                same,
            });
        }
        report.prompts.push(prompt.id.clone());
        save(&report)?;
    }
    Ok(report)
}

/// A contender at work.
struct Entry {
    drafter: Box<dyn Drafter>,
    costs: StepCosts,
}

/// Loads the contenders and measures what they cost; also the names of those that can't take part.
async fn entries(
    session: &mut Session,
    machine: &mut Machine,
    arguments: &Arguments,
    contenders: &[Contender],
) -> Result<(Vec<(Entry, Row)>, Vec<String>), String> {
    let mut entries = Vec::new();
    let mut left_out = Vec::new();
    for contender in contenders {
        if let Some(reason) = contender.is_missing(machine.has_weights, arguments) {
            left_out.push(format!("{}: {reason}", contender.name()));
            continue;
        }
        eprintln!("measuring what {} costs", contender.name());
        let mut loading = Loading {
            gpu: &machine.gpu,
            decoder: session.decoder(),
            gguf: &machine.gguf,
            reader: &mut machine.reader,
            arguments,
        };
        let drafter = contender.drafter(&mut loading).await?;
        session.set_drafter(drafter);
        let costs = session.measure_costs().await;
        let costs = costs.map_err(|error| error.to_string())?;
        let drafter = session.set_drafter(Box::new(NoDrafter));
        let drafter: Box<dyn Drafter> = match contender.tree {
            Tree::Auto => Box::new(Auto::new(drafter, costs.clone())),
            _ => drafter,
        };
        let entry = Entry {
            costs: costs.clone(),
            drafter,
        };
        entries.push((entry, Row::new(contender)));
    }
    Ok((entries, left_out))
}

/// What is to be answered.
struct Task<'a> {
    prompt: &'a [u32],
    /// Most tokens of the answer.
    tokens: usize,
    /// Tokens that end it.
    ends: &'a [u32],
}

impl Task<'_> {
    /// Answers with the session's drafter. What a step gives beyond the end of the model's turn is no part of the answer,
    /// and not counted as kept.
    async fn answer(
        &self,
        session: &mut Session,
        costs: Option<&StepCosts>,
    ) -> Result<(Answered, Vec<u32>), String> {
        session.reset();
        let first = session.read_prompt(self.prompt, &mut |_, _| ()).await;
        let mut text = vec![first.map_err(|error| error.to_string())?];
        let mut answered = Answered::default();
        let mut ended = self.ends.contains(&text[0]);
        while text.len() < self.tokens && !ended {
            let start = Instant::now();
            // No wish for fewer tokens, so that the last step drafts as many as the others.
            let step = session.step(usize::MAX).await;
            let step = step.map_err(|error| error.to_string())?;
            answered.seconds += start.elapsed().as_secs_f64();
            let on_gpu = costs.map_or(0.0, |costs| {
                let of_depth = costs.drafting(!step.draft.is_chain());
                let depth = if step.drafted == 0 { 0 } else { step.depth };
                of_depth[depth.min(of_depth.len() - 1)]
            });
            answered.draft_seconds += on_gpu.max(step.draft_time.as_secs_f64());
            let end = step.tokens.iter().position(|id| self.ends.contains(id));
            let tokens = end.map_or(step.tokens.len(), |end| end + 1);
            ended = end.is_some();
            answered.steps += 1;
            answered.tokens += tokens;
            answered.drafted += step.drafted;
            answered.kept += step.accepted.min(tokens);
            text.extend(&step.tokens[..tokens]);
        }
        text.truncate(self.tokens);
        Ok((answered, text))
    }
}
