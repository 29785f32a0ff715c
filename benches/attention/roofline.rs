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

/// What the adapter can do at most, as measured at the start of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Peaks {
    /// Multiply-adds of f32 in registers, in operations a second (two for each).
    pub fma: Peak,
    /// The same in f16, where shaders have it. The kernels compute in f32: for information.
    pub fma_f16: Option<Peak>,
    /// Products of cooperative matrices of f16 with sums of f32, in operations a second, where
    /// kernels may use them.
    pub matrix: Option<Peak>,
    /// Bytes a second of a read through memory larger than the caches.
    pub read: Peak,
}

impl Peaks {
    /// The peaks that bind.
    pub fn rates(&self) -> Rates {
        Rates {
            fma: self.fma.rate,
            read: self.read.rate,
            matrix: self.matrix.as_ref().map(|peak| peak.rate),
        }
    }
}

/// The peaks that bind, at one time: a machine that is shared or throttles is not always as fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Operations of f32 a second.
    pub fma: f64,
    /// Bytes a second.
    pub read: f64,
    /// Operations a second of products of matrices, where they were measured.
    pub matrix: Option<f64>,
}

/// What stops a perfect kernel from being faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The peak that binds: `FMA`, `matrix` or `read`.
    pub name: &'static str,
    /// Seconds that are needed at that peak.
    pub seconds: f64,
}

impl Rates {
    /// The later of two peaks for so many operations and bytes: that of reading, and that of what
    /// the kernel computes with, products of matrices or multiply-adds.
    pub fn limit(&self, flops: u64, bytes: u64, on_matrices: bool) -> Limit {
        let (name, rate) = match self.matrix.filter(|_| on_matrices) {
            Some(matrix) => ("matrix", matrix),
            None => ("FMA", self.fma),
        };
        let compute = flops as f64 / rate;
        let read = bytes as f64 / self.read;
        match compute > read {
            true => Limit {
                name,
                seconds: compute,
            },
            false => Limit {
                name: "read",
                seconds: read,
            },
        }
    }
}

/// How far the peaks may move in a run before times of different cases can't be compared.
const STEADY: f64 = 0.15;

/// A warning, where the f32 peak beside some case was not that of the start.
pub fn drift(start: Rates, beside_cases: impl Iterator<Item = Rates>) -> Option<String> {
    let (mut least, mut most) = (1f64, 1f64);
    for rates in beside_cases {
        least = least.min(rates.fma / start.fma);
        most = most.max(rates.fma / start.fma);
    }
    (least < 1.0 - STEADY || most > 1.0 + STEADY).then(|| {
        format!(
            "the adapter ran at {:.0} % to {:.0} % of its f32 peak at the start: compare \
             fractions and ratios, not times",
            least * 100.0,
            most * 100.0
        )
    })
}
