//! A loop of products of cooperative matrices that stay in registers: what the units for matrices can do at most.

use std::fmt::Write as _;

/// Invocations of a subgroup: kernels use cooperative matrices with this size only.
const SUBGROUP: u32 = 32;
/// Subgroups of a workgroup.
const SUBGROUPS: u32 = 8;
/// Workgroups of a call, so that a large GPU has several on each multiprocessor.
pub const GROUPS: u32 = 2048;
/// Iterations of the loop.
pub const STEPS: u32 = 64;
/// Products of each pair of matrices in an iteration, so that the loop itself costs nothing.
const REPEAT: u32 = 8;
/// Elements of a matrix, 16 x 16.
const ELEMENTS: u32 = 256;

/// Matrices of f16 on the left and on the right. Each left one times each right one is summed in f32 in a matrix of its
/// own: products that depend on each other wait for each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocking {
    /// Matrices on the left.
    pub left: u32,
    /// Matrices on the right.
    pub right: u32,
}

/// Blockings to try: more sums hide more latency, and take registers.
pub const BLOCKINGS: &[Blocking] = &[
    Blocking { left: 1, right: 2 },
    Blocking { left: 2, right: 2 },
    Blocking { left: 2, right: 4 },
    Blocking { left: 4, right: 4 },
];

impl Blocking {
    /// Name in tables.
    pub fn name(self) -> String {
        format!("products of {} x {} matrices", self.left, self.right)
    }

    /// Operations of a call: two for each multiply-add of 16 x 16 x 16.
    pub fn operations(self) -> f64 {
        let products = u64::from(STEPS * REPEAT * self.left * self.right);
        (u64::from(GROUPS * SUBGROUPS) * products * 2 * 16 * 16 * 16) as f64
    }

    /// Elements of f16 that the factors have together.
    pub fn factor_elements(self) -> u32 {
        (self.left + self.right) * ELEMENTS
    }

    /// Elements of f32 that the result has.
    pub fn result_elements(self) -> u32 {
        self.left * self.right * ELEMENTS
    }

    /// The kernel. Bindings: 0 parameters (steps), 1 factors, 2 result.
    pub fn wgsl(self) -> String {
        let mut wgsl = format!(
            "enable f16;
            enable wgpu_cooperative_matrix;
            struct Params {{ steps: u32, }}
            @group(0) @binding(0) var<uniform> params: Params;
            @group(0) @binding(1) var<storage, read> factors: array<vec4<f16>>;
            @group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;
            @compute @workgroup_size({})
            fn main() {{\n",
            SUBGROUP * SUBGROUPS
        );
        let quads = ELEMENTS / 4;
        let mut load = |name: &str, role: &str, at: u32| {
            // Writing to a String cannot fail.
            let _ = writeln!(
                wgsl,
                "let {name} = coopLoadT<coop_mat16x16<f16, {role}>>(&factors[{}u], 4u);",
                at * quads
            );
        };
        for i in 0..self.left {
            load(&format!("a{i}"), "A", i);
        }
        for j in 0..self.right {
            load(&format!("b{j}"), "B", self.left + j);
        }
        for sum in self.sums() {
            let _ = writeln!(wgsl, "var {} = coop_mat16x16<f32, C>();", sum.0);
        }
        wgsl.push_str("for (var i = 0u; i < params.steps; i++) {\n");
        for _ in 0..REPEAT {
            for (sum, i, j) in self.sums() {
                let _ = writeln!(wgsl, "{sum} = coopMultiplyAdd(a{i}, b{j}, {sum});");
            }
        }
        wgsl.push_str("}\n");
        // Every sum is part of the result, so that none is dead code. All subgroups compute the same and store it to
        // the same place.
        for (at, (sum, ..)) in (0..).zip(self.sums()) {
            let _ = writeln!(wgsl, "coopStoreT({sum}, &result[{}u], 4u);", at * quads);
        }
        wgsl.push_str("}\n");
        wgsl
    }

    /// Names of the sums with their factors.
    fn sums(self) -> impl Iterator<Item = (String, u32, u32)> {
        (0..self.left).flat_map(move |i| (0..self.right).map(move |j| (format!("s{i}_{j}"), i, j)))
    }
}
