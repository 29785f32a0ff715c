//! The adapter's peaks, and the least time they leave to a problem (the roofline model, Williams et
//! al. 2009).

/// A peak rate, and the kernel variant that reached it.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    /// Operations or bytes a second.
    pub rate: f64,
    /// The fastest variant.
    pub variant: String,
    /// All variants with their rates.
    pub variants: Vec<(String, f64)>,
}

/// What the adapter can do at most, as measured in the same run.
#[derive(Clone, Debug, PartialEq)]
pub struct Peaks {
    /// Multiply-adds of f32 in registers, in operations a second (two for each).
    pub fma: Peak,
    /// The same in f16, where shaders have it. The kernels compute in f32: for information.
    pub fma_f16: Option<Peak>,
    /// Bytes a second of a read through memory larger than the caches.
    pub read: Peak,
}

/// What stops a perfect kernel from being faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The peak that binds: `FMA` or `read`.
    pub name: &'static str,
    /// Seconds that are needed at that peak.
    pub seconds: f64,
}

impl Peaks {
    /// The later of the two peaks for so many operations and bytes.
    pub fn limit(&self, flops: u64, bytes: u64) -> Limit {
        let compute = flops as f64 / self.fma.rate;
        let read = bytes as f64 / self.read.rate;
        match compute > read {
            true => Limit {
                name: "FMA",
                seconds: compute,
            },
            false => Limit {
                name: "read",
                seconds: read,
            },
        }
    }
}
