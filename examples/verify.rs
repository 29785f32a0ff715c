//! A model and a drafter of your own, verified on the GPU: `cargo run --release --example verify`.
//!
//! The model guesses a letter from the two before it, the drafter four from one. Text is sampled with a seed.

use std::{collections::HashMap, error::Error};
use sunfleck::tree::{DraftTree, DrawKind};
use sunfleck::verify::{Rule, Verdict, VerifyIo, VerifyProblem, VerifyRequest};
use sunfleck::{gpu::Gpu, wgpu};

const TEXT: &[u8] = b"the cat sat on the mat and the rat that ran to the man sat on the hat ";
const NODES: u32 = 16; // of a draft tree, the root included
const VOCABULARY: usize = 128; // ASCII

/// The tree of each step with the accepted path, and the sampled text.
pub async fn run(seed: u64) -> Result<String, Box<dyn Error>> {
    // Your model: logits of what follows the last two letters.
    let mut counts = HashMap::<&[u8], [f32; VOCABULARY]>::new();
    for three in TEXT.windows(3) {
        let row = counts.entry(&three[..2]).or_insert([1e-9; VOCABULARY]);
        row[usize::from(three[2])] += 1.0;
    }
    let model = |letters: &[u8]| {
        let known = counts.get(&letters[letters.len() - 2..]);
        known.map_or([0.0; VOCABULARY], |row| row.map(f32::ln))
    };
    // Your drafter: what came in TEXT after the last letter alone. No chance is involved.
    let drafter = |letters: &[u8]| -> Vec<Vec<u32>> {
        let next = |five: &[u8]| five[1..].iter().map(|&y| y.into()).collect();
        let found = (TEXT.windows(5)).filter(|five| letters.ends_with(&five[..1]));
        found.map(next).collect()
    };

    let instance = wgpu::Instance::default(); // or your own device and queue
    let adapter = instance.request_adapter(&Default::default()).await?;
    let (device, queue) = adapter.request_device(&Default::default()).await?;
    let gpu = Gpu::new(&device, &queue);
    let (mut text, mut rows) = (b"th".to_vec(), [[0.0f32; VOCABULARY]; NODES as usize]);
    let logits = gpu.storage_with("logits", rows.as_flattened())?;
    let blob = gpu.storage_with("tree", &DraftTree::root_only(0).blob(NODES as usize)?)?;
    let lengths = gpu.storage_with("lengths", &[1, text.len() as u32 - 1, 0, 0])?;
    let plan = gpu.plan_verify(&VerifyProblem::new(1, NODES, VOCABULARY as u32))?;
    let verify = plan.prepare().await?.bind(&VerifyIo {
        logits: (&logits).into(),
        draft: None, // probabilities, of drafters that sample
        tree: (&blob).into(),
        lengths: (&lengths).into(),
        masks: None,
    })?;
    let request = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, seed);
    verify.set_request(0, &request)?;

    let mut shown = String::new();
    while text.len() < 40 {
        let tree = DraftTree::merge(text[text.len() - 1].into(), &drafter(&text), NODES as usize)?;
        for (node, row) in rows.iter_mut().enumerate().take(tree.len()) {
            let path = tree.path_to(node).unwrap_or_default();
            let drafted = path[1..].iter().map(|&n| tree.tokens()[n as usize] as u8);
            *row = model(&text.iter().copied().chain(drafted).collect::<Vec<_>>());
        }
        queue.write_buffer(&logits, 0, bytemuck::cast_slice(rows.as_flattened()));
        let words = tree.blob(NODES as usize)?;
        queue.write_buffer(&blob, 0, bytemuck::cast_slice(&words));
        let mut encoder = device.create_command_encoder(&Default::default());
        verify.encode(&mut encoder.begin_compute_pass(&Default::default()));
        verify.encode_finalise(&mut encoder.begin_compute_pass(&Default::default()));
        queue.submit([encoder.finish()]);
        let verdict = Verdict::from_words(&gpu.read_buffer(verify.outcome()).await?, NODES)?;
        let drawing = tree.drawing(|token| format!("{:?}", token as u8 as char));
        shown += &drawing.accepted(&verdict.path).to_text();
        shown += &format!("kept {} letters\n", verdict.tokens.len());
        text.extend(verdict.tokens.iter().map(|&token| token as u8));
    }
    Ok(shown + &String::from_utf8_lossy(&text))
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", pollster::block_on(run(42))?);
    Ok(())
}
