//! The measurement.

use std::time::Instant;

use sunfleck::{
    draft::{Auto, Drafter, NoDrafter},
    generate::Session,
    model::ChatTemplate,
};

use crate::{
    arguments::Arguments,
    contenders::{Contender, Tree},
    device::Machine,
    prompts,
    report::{Report, Row},
};

/// Most drafted tokens of any contender.
const MAX_DRAFT: u32 = 31;

/// Counts and times of answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Tokens that steps gave.
    pub tokens: usize,
    /// Steps.
    pub steps: usize,
    /// Drafted tokens.
    pub drafted: usize,
    /// Drafted tokens that were kept.
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
}

/// Answers the prompts with each contender.
pub async fn run(arguments: &Arguments, contenders: &[Contender]) -> Result<Report, String> {
    let prompts = prompts::chosen(arguments.prompts, arguments.kind.as_deref())?;
    let (mut machine, decoder) = Machine::open(MAX_DRAFT).await?;
    let template = ChatTemplate::from_gguf(&machine.gguf).map_err(|error| error.to_string())?;
    let mut session = Session::new(&machine.gpu, decoder, Box::new(NoDrafter));
    let mut entries: Vec<Entry> = Vec::new();
    let mut left_out = Vec::new();
    for contender in contenders {
        if !contender.has_weights(machine.folder.as_ref()) {
            left_out.push(contender.name());
            continue;
        }
        let (gpu, gguf) = (&machine.gpu, &machine.gguf);
        let (reader, folder) = (&mut machine.reader, machine.folder.as_ref());
        let drafter = contender
            .drafter(gpu, session.decoder(), gguf, reader, folder)
            .await?;
        session.set_drafter(drafter);
        eprintln!("measuring what {} costs", contender.name());
        let costs = session
            .measure_costs()
            .await
            .map_err(|error| error.to_string())?;
        let drafter = session.set_drafter(Box::new(NoDrafter));
        let drafter: Box<dyn Drafter> = match contender.tree {
            Tree::Auto => Box::new(Auto::new(drafter, costs.clone())),
            _ => drafter,
        };
        entries.push(Entry {
            draft_costs: costs.draft().to_vec(),
            row: Row::new(contender),
            drafter,
        });
    }
    let mut plain = Row::plain();
    for prompt in &prompts {
        eprint!("{}:", prompt.id);
        let turn = template.user_turn(&machine.tokenizer, &prompt.text);
        let tokens = turn.map_err(|error| error.to_string())?;
        let (before, text) = answer(&mut session, &tokens, arguments.tokens, &[]).await?;
        let mut rows = Vec::new();
        for entry in &mut entries {
            let drafter = std::mem::replace(&mut entry.drafter, Box::new(NoDrafter));
            session.set_drafter(drafter);
            let costs = &entry.draft_costs;
            let (answered, own) = answer(&mut session, &tokens, arguments.tokens, costs).await?;
            entry.drafter = session.set_drafter(Box::new(NoDrafter));
            eprint!(
                " {:.2}",
                answered.kept as f64 / answered.steps.max(1) as f64
            );
            rows.push((answered, own == text));
        }
        eprintln!();
        let (after, _) = answer(&mut session, &tokens, arguments.tokens, &[]).await?;
        // Plain decoding around the contenders.
        let mut both = before;
        both.add(after);
        plain.add(both, both, true);
        for (entry, (answered, same)) in entries.iter_mut().zip(rows) {
            entry.row.add(answered, both, same);
        }
    }
    let rows = entries.into_iter().map(|entry| entry.row);
    Ok(Report {
        adapter: machine.info,
        model: machine.model,
        prompts: prompts.into_iter().map(|prompt| prompt.id).collect(),
        tokens: arguments.tokens,
        rows: std::iter::once(plain).chain(rows).collect(),
        left_out,
    })
}

/// A contender at work.
struct Entry {
    row: Row,
    drafter: Box<dyn Drafter>,
    draft_costs: Vec<f64>, // [depth], seconds
}

/// Answers `prompt` with the session's drafter, for `tokens` tokens whatever they are.
async fn answer(
    session: &mut Session,
    prompt: &[u32],
    tokens: usize,
    draft_costs: &[f64],
) -> Result<(Answered, Vec<u32>), String> {
    session.reset();
    let first = session.read_prompt(prompt, &mut |_, _| ()).await;
    let mut text = vec![first.map_err(|error| error.to_string())?];
    let mut answered = Answered::default();
    while text.len() < tokens {
        let start = Instant::now();
        let step = session.step(tokens - text.len()).await;
        let step = step.map_err(|error| error.to_string())?;
        answered.seconds += start.elapsed().as_secs_f64();
        let on_gpu = match step.drafted {
            0 => draft_costs.first(),
            _ => draft_costs.get(step.depth).or(draft_costs.last()),
        };
        answered.draft_seconds += on_gpu
            .copied()
            .unwrap_or(0.0)
            .max(step.draft_time.as_secs_f64());
        answered.steps += 1;
        answered.tokens += step.tokens.len();
        answered.drafted += step.drafted;
        answered.kept += step.accepted;
        text.extend(step.tokens);
    }
    text.truncate(tokens);
    Ok((answered, text))
}
