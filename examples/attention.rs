//! Attention on a device of your own: `cargo run --release --example attention`.
//!
//! One token attends to 4,096 cached keys, with 9 query heads over 3 KV heads of 64.

use std::error::Error;

use sunfleck::{
    attention::{AttentionIo, AttentionProblem, Element, TensorLayout, lengths},
    gpu::Gpu,
    wgpu,
};

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let instance = wgpu::Instance::default();
    let adapter = instance.request_adapter(&Default::default()).await?;
    let (device, queue) = adapter.request_device(&Default::default()).await?;
    let gpu = Gpu::new(&device, &queue);

    let (heads, kv_heads, dim, keys) = (9, 3, 64, 4096);
    let mut problem = AttentionProblem::new(heads, kv_heads, dim, 1, keys);
    // The cache is f16, head by head: [kv_head, key, dim].
    problem.key = TensorLayout::head_major(Element::F16, keys, kv_heads, dim);
    problem.value = problem.key;
    let plan = gpu.plan_attention(&problem)?;
    print!("{}", plan.explain());

    // Every key is the same, so the output is the mean of the values: all values are 0.5 here.
    let cache = (keys * kv_heads * dim) as usize;
    let halves = |value: f32| vec![half::f16::from_f32(value); cache];
    let query = gpu.storage_with("query", &vec![1.0f32; (heads * dim) as usize])?;
    let key = gpu.storage_with("key", &halves(0.1))?;
    let value = gpu.storage_with("value", &halves(0.5))?;
    let output = gpu.storage("output", u64::from(heads * dim) * 4)?;
    let lengths = gpu.storage_with("lengths", lengths(&[(1, keys)]).as_flattened())?;

    let attention = plan.prepare().await?;
    let workspace = attention.workspace()?;
    let call = attention.bind(
        &workspace,
        &AttentionIo {
            query: (&query).into(),
            key: (&key).into(),
            value: (&value).into(),
            output: (&output).into(),
            lengths: (&lengths).into(),
            lse: None,
            bias: None,
            tree: None,
            pages: None,
        },
    )?;
    let mut encoder = device.create_command_encoder(&Default::default());
    call.encode(
        &mut encoder.begin_compute_pass(&Default::default()),
        1,
        keys,
    );
    queue.submit([encoder.finish()]);

    let result: Vec<f32> = gpu.read_buffer(&output).await?;
    println!("output of head 0: {:?} ...", &result[..4]);
    Ok(())
}
