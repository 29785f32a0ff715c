//! A kernel before it is compiled: its WGSL text, bindings and needs.
//!
//! The text of a kernel is a generated header followed by plain `.wgsl` files. The header holds
//! `enable` lines, `const` values (tile sizes, head sizes).
//! Which files follow decides the rest: files that are alternatives define the same functions. Loops
//! marked `// unroll` are written out for real GPUs.

use std::fmt::Write as _;

use super::{Capabilities, Dialect, GpuError, Limit, StructLayout, limits, unroll};

/// How a kernel uses one of its bindings. All bindings of a kernel are in group 0, numbered in
/// the order in which the kernel lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// A uniform buffer: the kernel's parameter struct.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is read and written.
    Write,
}

/// One WGSL file that is part of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Path below `shaders/`.
    pub path: &'static str,
    /// The text.
    pub text: &'static str,
}

/// Names a file below `shaders/`, whose text is compiled into the library.
macro_rules! shader {
    ($path:literal) => {
        $crate::gpu::Source {
            path: $path,
            text: include_str!(concat!("../../shaders/", $path)),
        }
    };
}
pub(crate) use shader;

/// A kernel variant: everything needed to compile it, and its name.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Stable name, such as `attention/decode/f32/d64/rows4`: cache key, label and test id.
    pub name: String,
    /// Bindings of group 0 in order.
    pub bindings: Vec<Binding>,
    /// Bytes of workgroup memory that the variant declares.
    pub workgroup_bytes: u64,
    /// Invocations along x, y and z of a workgroup.
    pub workgroup_size: [u32; 3],
    /// The parameter struct, binding 0.
    pub params: StructLayout,
    subgroups: bool,
    cooperative_matrices: bool,
    constants: String,
    sources: Vec<Source>,
}

impl Kernel {
    /// A kernel with no constants and sources yet.
    pub(crate) fn new(
        name: impl Into<String>,
        workgroup_size: [u32; 3],
        params: StructLayout,
        bindings: &[Binding],
    ) -> Self {
        let mut kernel = Self {
            name: name.into(),
            bindings: bindings.to_vec(),
            workgroup_bytes: 0,
            workgroup_size,
            params,
            subgroups: false,
            cooperative_matrices: false,
            constants: String::new(),
            sources: Vec::new(),
        };
        for (axis, size) in ["X", "Y", "Z"].into_iter().zip(workgroup_size) {
            kernel = kernel.constant(&format!("WORKGROUP_{axis}"), size);
        }
        kernel
    }

    /// Adds `const NAME: u32 = value;` to the header.
    pub(crate) fn constant(mut self, name: &str, value: u32) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
        self
    }

    /// Appends a file.
    pub(crate) fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// States the workgroup memory that the files declare under these constants.
    pub(crate) fn workgroup_bytes(mut self, bytes: u64) -> Self {
        self.workgroup_bytes = bytes;
        self
    }

    /// States that the files use subgroup built-ins.
    pub(crate) fn uses_subgroups(mut self) -> Self {
        self.subgroups = true;
        self
    }

    /// States that the files use cooperative matrices of f16. Only naga knows them.
    pub(crate) fn uses_cooperative_matrices(mut self) -> Self {
        self.cooperative_matrices = true;
        self
    }

    /// Whether the files use cooperative matrices.
    pub(crate) fn uses_matrices(&self) -> bool {
        self.cooperative_matrices
    }

    /// The WGSL text for one compiler.
    pub fn wgsl(&self, dialect: Dialect) -> String {
        let mut text = String::new();
        if self.subgroups && dialect == Dialect::Tint {
            text.push_str("enable subgroups;\n");
        }
        if self.cooperative_matrices {
            text.push_str("enable f16;\nenable wgpu_cooperative_matrix;\n");
        }
        let _ = writeln!(text, "// {}", self.name);
        text.push_str(&self.constants);
        for source in &self.sources {
            let _ = write!(text, "\n// ---- {}\n{}", source.path, source.text);
        }
        text
    }

    /// The text of [`Kernel::wgsl`] with the loops marked `// unroll` written out.
    pub fn unrolled_wgsl(&self, dialect: Dialect) -> String {
        unroll::unroll(&self.wgsl(dialect))
    }

    /// Checks the needs of the kernel against a device.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] for the first limit that is too low.
    pub fn check(&self, capabilities: &Capabilities) -> Result<(), GpuError> {
        let storage = self.bindings.iter().filter(|b| **b != Binding::Uniform);
        let needs = [
            (Limit::StorageBuffers, storage.count() as u64),
            (Limit::WorkgroupMemory, self.workgroup_bytes),
            (
                Limit::Invocations,
                self.workgroup_size.iter().map(|n| u64::from(*n)).product(),
            ),
        ];
        for (limit, needed) in needs {
            limits::check(&capabilities.limits, &self.name, limit, needed)?;
        }
        Ok(())
    }
}
