//! The likelihood of a text under a model.

use sunfleck::{
    gpu::{Gpu, ReadBack},
    model::{Decoder, StepKind},
    tree::DraftTree,
};

/// Mean negative log-likelihood of `tokens[1..]`, in nats a token: each given all before it, which lie in
/// the decoder's cache as it stores them. Rows are those of decoding, `rows` at a time.
pub fn of(gpu: &Gpu, decoder: &Decoder, tokens: &[u32], rows: u32) -> f64 {
    let vocabulary = decoder.hyperparameters().vocabulary as usize;
    let logits = ReadBack::new(gpu, "logits", u64::from(rows) * vocabulary as u64 * 4);
    let (mut sum, mut count) = (0.0, 0);
    let mut past = 0;
    for chunk in tokens.chunks(rows as usize) {
        let tree = DraftTree::chain(chunk[0], &chunk[1..]).expect("a chain");
        let blob = tree.blob(decoder.max_nodes() as usize).expect("a blob");
        let queue = gpu.queue();
        queue.write_buffer(decoder.tree(), 0, bytemuck::cast_slice(&blob));
        decoder.step().set_rows(gpu, chunk.len() as u32);
        decoder.step().set_past(gpu, past);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let keys = past + chunk.len() as u32;
            decoder.encode(&mut pass, chunk.len() as u32, keys, StepKind::Chain);
        }
        logits.encode(&mut encoder, decoder.logits(), 0);
        queue.submit([encoder.finish()]);
        let bytes = pollster::block_on(logits.read(gpu)).expect("logits");
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        for (i, row) in values.chunks(vocabulary).take(chunk.len()).enumerate() {
            let Some(next) = tokens.get(past as usize + i + 1) else {
                continue;
            };
            let most = row.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = row.iter().map(|v| f64::from(v - most).exp()).sum();
            sum += total.ln() + f64::from(most - row[*next as usize]);
            count += 1;
        }
        past += chunk.len() as u32;
    }
    sum / f64::from(count)
}
