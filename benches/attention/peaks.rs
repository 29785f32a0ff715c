//! Measures the adapter's peaks: multiply-adds and products of matrices that stay in registers, and
//! a streaming read.
//!
//! What is fastest differs between adapters, so several variants run and the best counts. The
//! fastest run again in turns with every case: a machine that is shared, or throttles, changes its
//! speed within a run, and a fraction should not.

use std::fmt::Write as _;

use sunfleck::{
    gpu::Gpu,
    wgpu::{self, ErrorFilter},
};

use crate::{
    clock::{Clock, Sample},
    matrix_products::{self, BLOCKINGS, Blocking},
    pipelines, random,
    roofline::{Peak, Peaks},
    statistics::Spread,
    timing::{Timer, Work},
};

/// A kernel that may reach a peak.
pub struct Variant {
    name: String,
    /// The kernel.
    pub work: Work,
    /// Operations or bytes of a call.
    pub cost: f64,
}

impl Variant {
    /// Operations or bytes a second in the median of samples.
    pub fn rate(&self, samples: &[Sample]) -> Option<f64> {
        let clock = Clock::for_samples(samples);
        let seconds = samples.iter().map(|s| s.seconds(clock) / s.calls as f64);
        let spread = Spread::of(seconds.collect())?;
        Some(self.cost / spread.median)
    }
}

/// The kernels that reached the peaks which bind.
pub struct Yardstick<'a> {
    /// Multiply-adds of f32.
    pub fma: &'a Variant,
    /// Streaming read.
    pub read: &'a Variant,
    /// Products of matrices, where there are any.
    pub matrix: Option<&'a Variant>,
}

/// The peak kernels, compiled.
pub struct PeakBench {
    fma: Vec<Variant>,
    fma_f16: Vec<Variant>,
    read: Vec<Variant>,
    matrix: Vec<Variant>,
    seconds: f64, // of a sample
    samples: usize,
}

/// Bytes that a stream must have to pass by the caches.
pub fn stream_bytes(software: bool) -> u64 {
    match software {
        true => 128 << 20,
        false => 1 << 30,
    }
}

impl PeakBench {
    /// Compiles the kernels.
    pub fn new(gpu: &Gpu, software: bool, quick: bool) -> Self {
        let fma = |f16: bool| {
            let mut variants = Vec::new();
            for fused in [true, false] {
                for accumulators in [2, 4, 8] {
                    variants.push(fma(gpu, software, f16, fused, accumulators));
                }
            }
            variants
        };
        let f16 = gpu.capabilities().shader_f16;
        let stream = stream(gpu, stream_bytes(software));
        let read = [(64, 4), (64, 16), (256, 4), (256, 16), (256, 64)]
            .map(|(workgroup, loads)| read(gpu, &stream, workgroup, loads));
        Self {
            fma: fma(false),
            fma_f16: if f16 { fma(true) } else { vec![] },
            read: read.into(),
            matrix: match gpu.capabilities().cooperative_matrices {
                true => BLOCKINGS.iter().map(|one| matrix(gpu, *one)).collect(),
                false => vec![],
            },
            seconds: if software { 0.04 } else { 0.02 },
            samples: if quick { 3 } else { 7 },
        }
    }

    /// Measures all variants, in turns.
    pub fn measure(&self, timer: &Timer) -> Peaks {
        let peak = |variants: &[Variant]| self.peak(timer, variants);
        Peaks {
            fma: peak(&self.fma),
            fma_f16: (!self.fma_f16.is_empty()).then(|| peak(&self.fma_f16)),
            read: peak(&self.read),
            matrix: (!self.matrix.is_empty()).then(|| peak(&self.matrix)),
        }
    }

    /// The kernels that reached `peaks`.
    pub fn yardstick(&self, peaks: &Peaks) -> Yardstick<'_> {
        let find = |variants: &'_ [Variant], peak: &Peak| {
            let at = variants.iter().position(|v| v.name == peak.variant);
            at.expect("the peaks come from these variants")
        };
        Yardstick {
            fma: &self.fma[find(&self.fma, &peaks.fma)],
            read: &self.read[find(&self.read, &peaks.read)],
            matrix: (peaks.matrix.as_ref()).map(|peak| &self.matrix[find(&self.matrix, peak)]),
        }
    }

    fn peak(&self, timer: &Timer, variants: &[Variant]) -> Peak {
        let mut samples: Vec<Vec<Sample>> = vec![vec![]; variants.len()];
        for variant in variants {
            timer.calibrate(&variant.work, self.seconds / 4.0);
        }
        for _ in 0..self.samples {
            for (variant, samples) in variants.iter().zip(&mut samples) {
                let calls = variant.work.calls_for(self.seconds);
                samples.push(timer.sample(&variant.work, calls));
            }
        }
        let rates = variants.iter().zip(&samples).map(|(variant, samples)| {
            let rate = variant.rate(samples).expect("at least one sample");
            (variant.name.clone(), rate)
        });
        let rates: Vec<_> = rates.collect();
        let best = rates.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let (variant, rate) = best.expect("variants").clone();
        Peak {
            rate,
            variant,
            variants: rates,
        }
    }
}

/// Iterations of the loop of multiply-adds.
const STEPS: u32 = 64;
/// Multiply-adds of each accumulator in an iteration, so that the loop itself costs nothing.
const REPEAT: u32 = 8;

/// Chains of `vec4` multiply-adds, each independent of the others.
fn fma(gpu: &Gpu, software: bool, f16: bool, fused: bool, accumulators: u32) -> Variant {
    let scalar = if f16 { "f16" } else { "f32" };
    let (workgroup, groups) = if software { (64, 128) } else { (256, 4096) };
    let mut wgsl = String::new();
    if f16 {
        wgsl.push_str("enable f16;\n");
    }
    let _ = write!(
        wgsl,
        "struct Params {{ steps: u32, factor: f32, addend: f32, }}
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read_write> result: array<f32>;
        @compute @workgroup_size({workgroup})
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
            let a = vec4(({scalar}(params.factor)));
            let b = vec4(({scalar}(params.addend)));\n"
    );
    let chains = 0..accumulators;
    for chain in chains.clone() {
        // Components that start alike would stay alike, and a compiler could compute one for all.
        let _ = writeln!(
            wgsl,
            "var s{chain} = vec4<{scalar}>((id.xxxx + vec4(0u, 1u, 2u, 3u)) % {}u);",
            7 + chain
        );
    }
    wgsl.push_str("for (var i = 0u; i < params.steps; i++) {\n");
    for _ in 0..REPEAT {
        for chain in chains.clone() {
            let _ = match fused {
                true => writeln!(wgsl, "s{chain} = fma(s{chain}, a, b);"),
                false => writeln!(wgsl, "s{chain} = s{chain} * a + b;"),
            };
        }
    }
    // Every chain is part of the result, so that none is dead code.
    let sum: Vec<_> = chains.map(|chain| format!("s{chain}")).collect();
    let _ = write!(
        wgsl,
        "}}
        let sum = vec4<f32>({});
        result[id.x] = sum.x + sum.y + sum.z + sum.w;
        }}",
        sum.join(" + ")
    );
    let operation = if fused { "fma" } else { "mul+add" };
    let name = format!("{operation} {scalar} {accumulators} x vec4");
    let pipeline = pipelines::compile(gpu, &name, &wgsl);
    let params = pipelines::uniform(gpu, &[STEPS, 0.75f32.to_bits(), 0.5f32.to_bits(), 0]);
    let result = gpu
        .storage("peak result", u64::from(workgroup * groups) * 4)
        .expect("a buffer of 4 MiB");
    let group = pipelines::bind(gpu, &pipeline, &[&params, &result]);
    let invocations = u64::from(workgroup * groups);
    let cost = invocations * u64::from(STEPS * REPEAT * accumulators) * 4 * 2;
    Variant {
        name,
        work: Work::new(move |pass, _| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(groups, 1, 1);
        }),
        cost: cost as f64,
    }
}

/// Products of matrices of random numbers: of zeros, a GPU that throttles computes more.
fn matrix(gpu: &Gpu, blocking: Blocking) -> Variant {
    let pipeline = pipelines::compile(gpu, &blocking.name(), &blocking.wgsl());
    let params = pipelines::uniform(gpu, &[matrix_products::STEPS, 0, 0, 0]);
    let factors = random::numbers(5, blocking.factor_elements() as usize);
    let factors: Vec<_> = factors.into_iter().map(half::f16::from_f32).collect();
    let factors = gpu.storage_with("factors", &factors);
    let result = gpu.storage("products", u64::from(blocking.result_elements()) * 4);
    let (factors, result) = (factors.expect("small"), result.expect("small"));
    let group = pipelines::bind(gpu, &pipeline, &[&params, &factors, &result]);
    Variant {
        name: blocking.name(),
        work: Work::new(move |pass, _| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(matrix_products::GROUPS, 1, 1);
        }),
        cost: blocking.operations(),
    }
}

/// A buffer of at most `bytes`, a power of two, of random words: drivers may store zeros in less.
fn stream(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    let limits = &gpu.capabilities().limits;
    let most = limits
        .max_storage_buffer_binding_size
        .min(limits.max_buffer_size);
    let mut bytes = bytes.min(1 << most.ilog2());
    let buffer = loop {
        let scope = gpu.device().push_error_scope(ErrorFilter::OutOfMemory);
        let buffer = gpu.storage("stream", bytes).expect("within the limits");
        match pollster::block_on(scope.pop()) {
            None => break buffer,
            Some(error) if bytes <= 16 << 20 => panic!("no memory for a stream: {error}"),
            Some(_) => bytes /= 2,
        }
    };
    let block = random::numbers(1, 4 << 20);
    let block: &[u8] = bytemuck::cast_slice(&block);
    for offset in (0..bytes).step_by(block.len()) {
        let length = block.len().min((bytes - offset) as usize);
        gpu.queue().write_buffer(&buffer, offset, &block[..length]);
        // One block at a time in the staging memory.
        gpu.queue().submit([]);
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .expect("the device stopped answering");
    }
    buffer
}

/// Each invocation reads `loads` vec4s, a workgroup apart, so that neighbours read neighbours.
fn read(gpu: &Gpu, stream: &wgpu::Buffer, workgroup: u64, loads: u64) -> Variant {
    let mut wgsl = format!(
        "@group(0) @binding(0) var<storage, read> stream: array<vec4<u32>>;
        @group(0) @binding(1) var<storage, read_write> result: array<u32>;
        @compute @workgroup_size({workgroup})
        fn main(
            @builtin(workgroup_id) group: vec3<u32>,
            @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32,
        ) {{
            let at = (group.y * groups.x + group.x) * {} + lane;
            var sum = vec4(0u);\n",
        workgroup * loads
    );
    for load in 0..loads {
        let _ = writeln!(wgsl, "sum ^= stream[at + {}u];", load * workgroup);
    }
    // The store never happens for random data, but the compiler can't know.
    wgsl.push_str(
        "if all(sum == vec4(0x5eed5eedu)) { result[lane] = sum.x; }
        }",
    );
    let name = format!("read {loads} x vec4, workgroup {workgroup}");
    let pipeline = pipelines::compile(gpu, &name, &wgsl);
    let result = gpu
        .storage("peak result", workgroup * 4)
        .expect("a small buffer");
    let group = pipelines::bind(gpu, &pipeline, &[stream, &result]);
    let groups = stream.size() / (16 * workgroup * loads);
    let most = u64::from(
        gpu.capabilities()
            .limits
            .max_compute_workgroups_per_dimension,
    );
    // All are powers of two, so the rows of workgroups are full.
    let x = groups.min(1 << most.ilog2());
    let [x, y] = [x as u32, (groups / x) as u32];
    Variant {
        name,
        work: Work::new(move |pass, _| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }),
        cost: stream.size() as f64,
    }
}
