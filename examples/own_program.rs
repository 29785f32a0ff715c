//! Attention and verification between kernels of your own, timed by wgpu-profiler: `cargo run --example own_program`.
//!
//! A language model of one layer: kernels of this program embed tokens and compute logits, sunfleck's attend to the tokens
//! before and keep the drafted ones that the model would have chosen. One submission; one buffer holds query, key and value.

use std::error::Error;

use sunfleck::{
    attention::{AttentionIo, AttentionProblem, lengths},
    gpu::{BufferView, Gpu},
    tree::DraftTree,
    verify::{Verdict, VerifyIo, VerifyProblem},
    wgpu,
};
use wgpu_profiler::{GpuProfiler, GpuProfilerSettings, GpuTimerQueryResult};

/// Tokens that there are.
pub const VOCABULARY: u32 = 32;
/// Query heads, over one KV head.
pub const HEADS: u32 = 2;
/// Elements of a head.
pub const DIM: u32 = 16;

/// Kernels of this program. The features of a token are made up, from multiples of 1/32.
const WGSL: &str = "
const VOCABULARY = 32u;
const HEADS = 2u;
const DIM = 16u;
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

fn feature(kind: u32, token: u32, i: u32) -> f32 {
    return f32((token * (73u + 2u * i) + i * 151u + kind * 101u) % 64u) / 32.0 - 1.0;
}

// query [token, head, dim], key [token, dim] and value [token, dim], each from a multiple of 256 bytes on
@compute @workgroup_size(64)
fn embed(@builtin(global_invocation_id) id: vec3<u32>) {
    let count = arrayLength(&tokens);
    let width = HEADS * DIM;
    if id.x >= count * width { return; }
    let token = tokens[id.x / width];
    let i = id.x % width;
    result[id.x] = feature(0u, token, i);
    if i < DIM {
        let keys = (count * width + 63u) / 64u * 64u;
        let values = keys + (count * DIM + 63u) / 64u * 64u;
        let at = id.x / width * DIM + i;
        result[keys + at] = feature(1u, token, i);
        result[values + at] = feature(2u, token, i);
    }
}

// logits [token, vocabulary]
@compute @workgroup_size(64)
fn head(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&tokens) * VOCABULARY { return; }
    var sum = 0.0;
    for (var i = 0u; i < HEADS * DIM; i++) {
        sum += source[id.x / VOCABULARY * HEADS * DIM + i] * feature(3u, id.x % VOCABULARY, i);
    }
    result[id.x] = sum;
}
";

/// What came out of one step.
pub struct Step {
    /// `[token, vocabulary]`
    pub logits: Vec<f32>,
    /// Which drafted tokens are kept, and the model's own one behind them.
    pub verdict: Verdict,
    /// The profiler's scopes, those inside a scope after it. Without timestamps on the adapter there are no times.
    pub scopes: Vec<(String, Option<f64>)>,
}

/// `chain[0]` is the last token of the text, the others are drafted. Buffers are bound for `chain.len()` tokens.
pub async fn run(adapter: &wgpu::Adapter, chain: &[u32]) -> Result<Step, Box<dyn Error>> {
    let timers = adapter.features() & GpuProfiler::ALL_WGPU_TIMER_FEATURES;
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            required_features: timers,
            ..Default::default()
        })
        .await?;
    let mut profiler = GpuProfiler::new(&device, GpuProfilerSettings::default())?;
    let gpu = Gpu::new(&device, &queue);
    let count = chain.len() as u32;

    // Buffers of this program, and of one of them three ranges.
    let buffer = |label, words: u32| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: u64::from(words) * 4,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    };
    let tokens = buffer("tokens", count);
    queue.write_buffer(&tokens, 0, bytemuck::cast_slice(chain));
    let (query, row) = (count * HEADS * DIM, count * DIM);
    let key_at = query.next_multiple_of(64);
    let value_at = key_at + row.next_multiple_of(64);
    let shared = buffer("query, key and value", value_at + row);
    let view =
        |at: u32, words: u32| BufferView::range(&shared, u64::from(at) * 4, u64::from(words) * 4);
    let attended = buffer("attended", query);
    let logits = buffer("logits", count * VOCABULARY);

    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("own kernels"),
        source: wgpu::ShaderSource::Wgsl(WGSL.into()),
    });
    let pipeline = |entry| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        })
    };
    let (embed, head) = (pipeline("embed"), pipeline("head"));
    let bind = |pipeline: &wgpu::ComputePipeline, buffers: &[(u32, &wgpu::Buffer)]| {
        let entries: Vec<_> = buffers
            .iter()
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    };
    let embed_group = bind(&embed, &[(0, &tokens), (2, &shared)]);
    let head_group = bind(&head, &[(0, &tokens), (1, &attended), (2, &logits)]);

    // sunfleck between them.
    let lengths = gpu.storage_with("lengths", lengths(&[(count, count)]).as_flattened())?;
    let problem = AttentionProblem::new(HEADS, 1, DIM, count, count);
    let attention = gpu.plan_attention(&problem)?.prepare().await?;
    let workspace = attention.workspace()?;
    let attention = attention.bind(
        &workspace,
        &AttentionIo {
            query: view(0, query),
            key: view(key_at, row),
            value: view(value_at, row),
            output: (&attended).into(),
            lengths: (&lengths).into(),
            lse: None,
            bias: None,
            tree: None,
            pages: None,
        },
    )?;
    let tree = DraftTree::chain(chain[0], &chain[1..])?;
    let blob = gpu.storage_with("tree", &tree.blob(chain.len())?)?;
    let plan = gpu.plan_verify(&VerifyProblem::new(1, count, VOCABULARY))?;
    let verify = plan.prepare().await?.bind(&VerifyIo {
        logits: (&logits).into(),
        draft: None,
        tree: (&blob).into(),
        lengths: (&lengths).into(),
        masks: None,
    })?;

    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut step = profiler.scope("step", &mut encoder);
        {
            let mut pass = step.scoped_compute_pass("embed");
            pass.set_pipeline(&embed);
            pass.set_bind_group(0, &embed_group, &[]);
            pass.dispatch_workgroups(query.div_ceil(64), 1, 1);
        }
        attention.encode(&mut step.scoped_compute_pass("attention"), count, count);
        {
            let mut pass = step.scoped_compute_pass("head");
            pass.set_pipeline(&head);
            pass.set_bind_group(0, &head_group, &[]);
            pass.dispatch_workgroups((count * VOCABULARY).div_ceil(64), 1, 1);
        }
        verify.encode(&mut step.scoped_compute_pass("verify"));
        verify.encode_finalise(&mut step.scoped_compute_pass("finalise"));
    }
    profiler.resolve_queries(&mut encoder);
    queue.submit([encoder.finish()]);
    profiler.end_frame()?;

    let words = gpu.read_buffer(verify.outcome()).await?;
    let mut scopes = vec![];
    let frame = profiler.process_finished_frame(queue.get_timestamp_period());
    list(&frame.unwrap_or_default(), &mut scopes);
    Ok(Step {
        logits: gpu.read_buffer(&logits).await?,
        verdict: Verdict::from_words(&words, count)?,
        scopes,
    })
}

fn list(results: &[GpuTimerQueryResult], into: &mut Vec<(String, Option<f64>)>) {
    for result in results {
        let seconds = result.time.as_ref().map(|time| time.end - time.start);
        into.push((result.label.clone(), seconds));
        list(&result.nested_queries, into);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(async {
        let instance = wgpu::Instance::default();
        let adapter = instance.request_adapter(&Default::default()).await?;
        let step = run(&adapter, &[3, 1, 4, 1, 5, 9, 2, 6]).await?;
        println!("tokens {:?}", step.verdict.tokens);
        for (label, seconds) in step.scopes {
            let time = seconds.map_or("no time".into(), |s| format!("{:.1} us", s * 1e6));
            println!("{label:10} {time}");
        }
        Ok(())
    })
}
