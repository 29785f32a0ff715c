//! Several steps in one submission, with no host in between: `cargo run --release --example run_ahead`.
//!
//! Drafter, model, verification and the end of a step all run on the GPU; the host reads the text when it likes. The
//! model is a table of which letter follows which, so it has no keys to commit: see `cache::Commit` for one that has.

use std::error::Error;
use sunfleck::ops::{DispatchSizes, Embed, MatrixWriter, StepBuffer, WeightType};
use sunfleck::tree::{DraftTree, DrawKind, FixedTree, FixedTreeIo};
use sunfleck::verify::{Rule, VerifyIo, VerifyProblem, VerifyRequest};
use sunfleck::{gpu::BufferView, gpu::Gpu, wgpu};

const TEXT: &[u8] = b"the cat sat on the mat and the rat that ran to the man sat on the hat ";
const NODES: u32 = 8; // of a draft tree, the root included
const VOCABULARY: u32 = 128; // ASCII

/// The text that `submissions` of `steps` steps each give, and how many steps the GPU counted.
pub async fn run(seed: u64, submissions: u32, steps: u32) -> Result<(String, u32), Box<dyn Error>> {
    let instance = wgpu::Instance::default(); // or your own device and queue
    let adapter = instance.request_adapter(&Default::default()).await?;
    let (device, queue) = adapter.request_device(&Default::default()).await?;
    let gpu = Gpu::new(&device, &queue);

    // Your model and drafter: how often a letter follows another, and how often it comes at all.
    let mut follows = vec![[1e-3f32; VOCABULARY as usize]; VOCABULARY as usize];
    let mut heads = [[1e-3f32; VOCABULARY as usize]; 2];
    for two in TEXT.windows(2) {
        follows[usize::from(two[0])][usize::from(two[1])] += 1.0;
        heads[1][usize::from(two[1])] += 1.0;
    }
    let logits: Vec<f32> = follows.as_flattened().iter().map(|n| n.ln()).collect();
    let mut table = MatrixWriter::new(&gpu, "table", WeightType::F32, VOCABULARY, VOCABULARY)?;
    table.push_rows(bytemuck::cast_slice(&logits));
    let table = table.finish();

    // Logits after each node; those of the drafter for the first and second letter; tree and length.
    let logits = gpu.storage("logits", u64::from(NODES * VOCABULARY * 4))?;
    let heads = gpu.storage_with("heads", heads.as_flattened())?;
    let root = DraftTree::root_only(b't'.into()).blob(NODES as usize)?;
    let blob = gpu.storage_with("tree", &root)?;
    let tokens = BufferView::range(&blob, 0, u64::from(NODES * 4));
    let step = StepBuffer::new(&gpu, 1, 0)?;
    let lengths = BufferView::whole(step.buffer());

    let draft = Embed::new(&gpu, &table, &step, tokens, (&heads).into(), VOCABULARY).await?;
    let paths: [&[usize]; 6] = [&[0], &[1], &[2], &[0, 0], &[0, 1], &[1, 0]]; // ranks
    let (heads, tree, map) = ((&heads).into(), (&blob).into(), None);
    let io = FixedTreeIo {
        logits: heads,
        tree,
        lengths,
        map,
    };
    let grow = FixedTree::new(&gpu, 1, &paths, 2, VOCABULARY, NODES, &io).await?;
    let model = Embed::new(&gpu, &table, &step, tokens, (&logits).into(), VOCABULARY).await?;
    let logits = (&logits).into();
    let io = VerifyIo {
        logits,
        draft: None,
        tree,
        lengths,
        masks: None,
    };
    let plan = gpu.plan_verify(&VerifyProblem::new(1, NODES, VOCABULARY))?;
    let verify = plan.prepare().await?.bind(&io)?;
    verify.set_request(
        0,
        &VerifyRequest::new(Rule::Rejection, DrawKind::TopK, seed),
    )?;
    // Attention over a cache would have its sizes here: `Attention::sizes`.
    let sizes = DispatchSizes::new(&gpu, &[], 0)?;
    let advance = verify.advance(&io, 1024, NODES, &sizes).await?;

    for _ in 0..submissions {
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..steps {
            draft.encode(&mut pass, 1);
            grow.encode(&mut pass);
            model.encode(&mut pass, NODES);
            verify.encode(&mut pass);
            advance.encode(&mut pass); // kept letters into the ring, the last one into the next root
        }
        drop(pass);
        queue.submit([encoder.finish()]);
    }
    let new = advance.read(&gpu, &mut advance.reader()).await?.remove(0)?;
    let letters: Vec<u8> = new.tokens.iter().map(|&token| token as u8).collect();
    Ok((String::from_utf8_lossy(&letters).into_owned(), new.steps))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (text, steps) = pollster::block_on(run(42, 2, 20))?;
    println!(
        "t{text}\n{} letters in {steps} steps, read once",
        text.len()
    );
    Ok(())
}
