//! The one measurement path: calls recorded into one pass, submitted, and timed by both clocks.

use std::{cell::Cell, time::Instant};

use sunfleck::{
    gpu::{Gpu, ReadBack},
    wgpu::{self, ComputePass},
};

use crate::clock::{Clock, Sample};

/// Most calls of a submission: recording more takes longer than it is worth.
const MAX_CALLS: u64 = 8192;

/// Something that is timed.
pub struct Work {
    record: Box<Record>,
    per_call: Cell<f64>, // seconds, as last seen
    recorded: Cell<u64>, // calls so far: the tensors take turns
}

/// Records the call of a number.
type Record = dyn Fn(&mut ComputePass<'_>, u64);

impl Work {
    /// `record` is told the number of the call, so that calls can take turns over buffers.
    pub fn new(record: impl Fn(&mut ComputePass<'_>, u64) + 'static) -> Self {
        Self {
            record: Box::new(record),
            per_call: Cell::new(0.0),
            recorded: Cell::new(0),
        }
    }

    /// How many calls last about `seconds`; at least one.
    pub fn calls_for(&self, seconds: f64) -> u64 {
        let calls = seconds / self.per_call.get().max(1e-9);
        (calls.round() as u64).clamp(1, MAX_CALLS)
    }
}

/// Times work on one device.
pub struct Timer {
    gpu: Gpu,
    queries: Option<Queries>,
}

struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: ReadBack,
    period: f64, // seconds of a tick
}

impl Timer {
    /// With timestamps where the device was made with them.
    pub fn new(gpu: &Gpu) -> Self {
        let queries = gpu.capabilities().timestamps.then(|| Queries {
            set: gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            read: ReadBack::new(gpu, "timestamps", 16),
            period: f64::from(gpu.queue().get_timestamp_period()) * 1e-9,
        });
        Self {
            gpu: gpu.clone(),
            queries,
        }
    }

    /// Runs `calls` calls in one pass of one submission. Recording and encoding are over before
    /// the wall clock starts.
    pub fn sample(&self, work: &Work, calls: u64) -> Sample {
        let device = self.gpu.device();
        let mut encoder = device.create_command_encoder(&Default::default());
        let timestamp_writes =
            self.queries
                .as_ref()
                .map(|queries| wgpu::ComputePassTimestampWrites {
                    query_set: &queries.set,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes,
        });
        let first = work.recorded.get();
        for call in first..first + calls {
            (work.record)(&mut pass, call);
        }
        work.recorded.set(first + calls);
        drop(pass);
        if let Some(queries) = &self.queries {
            encoder.resolve_query_set(&queries.set, 0..2, &queries.resolved, 0);
            queries.read.encode(&mut encoder, &queries.resolved, 0);
        }
        let commands = encoder.finish();

        let start = Instant::now();
        self.gpu.queue().submit([commands]);
        device
            .poll(wgpu::PollType::wait_indefinitely())
            .expect("the device stopped answering");
        let wall = start.elapsed().as_secs_f64();

        let gpu = self.queries.as_ref().and_then(|queries| {
            let bytes = pollster::block_on(queries.read.read(&self.gpu)).expect("timestamps");
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
            let ticks = ticks[1].checked_sub(ticks[0])?;
            (ticks > 0).then_some(ticks as f64 * queries.period)
        });
        let sample = Sample { calls, wall, gpu };
        work.per_call
            .set(sample.seconds(best(&sample)) / calls as f64);
        sample
    }

    /// Warms `work` up and learns how long a call takes: doubles the calls until they last
    /// `seconds`.
    pub fn calibrate(&self, work: &Work, seconds: f64) {
        let mut calls = 1;
        while self.sample(work, calls).wall < seconds && calls < MAX_CALLS {
            calls *= 2;
        }
    }
}

/// The clock for one sample by itself.
pub fn best(sample: &Sample) -> Clock {
    Clock::for_samples(std::slice::from_ref(sample))
}
