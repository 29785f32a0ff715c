//! How often drafts are right, at every place of texts and in the steps of a loop: `--places`.
//!
//! The statistics that came with the trained drafters are a mean over places, a loop's steps are others: a step begins
//! where the one before failed. Here both are counted on the same texts, with this crate's kernels.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sunfleck::{
    draft::NoDrafter,
    generate::{GenerateError, Session},
    model::ChatTemplate,
};

use crate::{
    arguments::{Arguments, Texts},
    contenders::{Contender, Loading},
    counts::{Counts, DEPTH, Place, Text, share},
    device::Machine,
    texts,
};

/// Parts of a text that are counted on their own: so many written tokens from the first on.
const PARTS: [(&str, usize); 3] = [("first 64", 64), ("first 128", 128), ("whole", usize::MAX)];

/// Counts of a contender: `[part]`.
struct Row {
    name: String,
    parts: Vec<Counts>,
}

/// Checks drafts at every place of the texts; the table, and the same as JSON.
pub async fn run(
    arguments: &Arguments,
    contenders: &[Contender],
    wanted: Texts,
) -> Result<(String, Value), String> {
    let (mut machine, decoder) = Machine::open(DEPTH as u32).await?;
    let template = ChatTemplate::from_gguf(&machine.gguf).map_err(|error| error.to_string())?;
    let mut session = Session::new(&machine.gpu, decoder, Box::new(NoDrafter));
    eprintln!("writing {} texts", arguments.prompts);
    let tokenizer = &machine.tokenizer;
    let texts = texts::texts(&mut session, tokenizer, &template, arguments, wanted).await?;
    let mut rows = Vec::new();
    for contender in contenders {
        if let Some(reason) = contender.is_missing(machine.has_weights, arguments) {
            eprintln!("{} is left out: {reason}", contender.name());
            continue;
        }
        let mut loading = Loading {
            gpu: &machine.gpu,
            decoder: session.decoder(),
            gguf: &machine.gguf,
            reader: &mut machine.reader,
            arguments,
        };
        let drafter = contender.drafter(&mut loading).await?;
        session.set_drafter(drafter);
        eprint!("{}:", contender.name());
        let mut row = Row {
            name: contender.name(),
            parts: vec![Counts::default(); PARTS.len()],
        };
        for text in &texts {
            // Behind the last token before what the model wrote.
            let first = text.written.iter().position(|written| *written);
            let Some(start) = first.and_then(|first| first.checked_sub(1)) else {
                continue;
            };
            let places = places(&mut session, text, start).await;
            let places = places.map_err(|error| error.to_string())?;
            for (counts, (_, most)) in row.parts.iter_mut().zip(PARTS) {
                counts.add(text, start, &places, most);
            }
            eprint!(" {:.2}", row.parts[PARTS.len() - 1].kept_a_place());
        }
        eprintln!();
        session.set_drafter(Box::new(NoDrafter));
        rows.push(row);
    }
    let of = match wanted {
        Texts::Prompts => "answers to the prompts",
        Texts::Training => "texts as the drafters were trained on",
    };
    let greedy = texts.iter().filter(|text| text.greedy).count();
    let title = format!(
        "{} on {} ({}): {} {of}, {greedy} of them greedy; draft vocabulary: {}",
        machine.model,
        machine.info.name,
        machine.info.backend,
        texts.len(),
        arguments.vocabulary_text()
    );
    let json = json!({
        "adapter": machine.info.name,
        "model": machine.model,
        "texts": of,
        "count": texts.len(),
        "greedy": greedy,
        "tokens": arguments.tokens,
        "draft_vocabulary": arguments.vocabulary_text(),
        "rows": rows.iter().map(row_json).collect::<Vec<_>>(),
    });
    Ok((format!("{title}\n\n{}", table(&rows)), json))
}

/// What the drafter is worth behind every token of `text` from `start` on. The session is led along the text: a token that
/// is not the model's likeliest is read as a prompt.
async fn places(
    session: &mut Session,
    text: &Text,
    start: usize,
) -> Result<Vec<Place>, GenerateError> {
    let mut places = Vec::new();
    session.reset();
    session
        .read_prompt(&text.ids[..=start], &mut |_, _| ())
        .await?;
    session.rewind(start + 1);
    for root in start..text.ids.len() {
        let step = session.step(DEPTH + 1).await?;
        let next = step.tokens[0];
        places.push(Place {
            right: step.accepted,
            next,
        });
        match text.ids.get(root + 1) {
            Some(id) if *id != next => {
                session.rewind(root + 1);
                session.read_prompt(&[*id], &mut |_, _| ()).await?;
            }
            _ => {}
        }
        session.rewind(root + 2);
    }
    Ok(places)
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| drafter | part of a text | places | token 1 | 2 | 3 | 4 | kept a place | token 1, any place | steps | kept a step |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        for (counts, (part, _)) in row.parts.iter().zip(PARTS) {
            let right = counts
                .right
                .map(|right| format!("{:.3}", share(right, counts.places)));
            let _ = writeln!(
                table,
                "| {} | {part} | {} | {} | {:.2} | {:.3} | {} | {:.2} |",
                row.name,
                counts.places,
                right.join(" | "),
                counts.kept_a_place(),
                share(counts.first_right, counts.written),
                counts.steps,
                share(counts.kept, counts.steps),
            );
        }
    }
    table
}

fn row_json(row: &Row) -> Value {
    let parts = row.parts.iter().zip(PARTS).map(|(counts, (part, _))| {
        json!({
            "part": part,
            "places": counts.places,
            "survival": counts.right.map(|right| share(right, counts.places)),
            "kept_a_place": counts.kept_a_place(),
            "first_token_any_place": share(counts.first_right, counts.written),
            "steps": counts.steps,
            "kept_a_step": share(counts.kept, counts.steps),
        })
    });
    json!({ "drafter": row.name, "parts": parts.collect::<Vec<_>>() })
}
