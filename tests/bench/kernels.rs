//! Names of the kernels that a plan chose.

use crate::kernel_names::*;

const DECODE: &str = "\
attention/decode/f32-f32-f32/d64/causal/r3/subgroup8: up to 3 packed rows a workgroup, 8 invocations
attention/decode/f32-f32-f32/d64/causal/r8/subgroup8: up to 8 packed rows a workgroup, 8 invocations
attention/merge/v64/f32: joins up to 16 spans of 256 keys
no prefill kernel: there are too few rows
workspace: 139264 bytes
";

#[test]
fn the_smallest_block_that_holds_the_rows_is_first() {
    let first = |rows| short(&in_order(DECODE, rows)[0]);
    assert_eq!(first(3), "decode r3 subgroup8");
    assert_eq!(first(4), "decode r8 subgroup8");
    assert_eq!(first(100), "decode r8 subgroup8");
    assert_eq!(in_order(DECODE, 4).len(), 3);
}

#[test]
fn a_prefill_kernel_in_the_plan_is_first() {
    let prefill = "attention/prefill/f32-f32-f32/d64/none/q32k32/f32: more than 64 packed rows";
    let names = in_order(&format!("{DECODE}{prefill}\n"), 512);
    assert_eq!(short(&names[0]), "prefill q32k32");
}

#[test]
fn an_explanation_without_kernels_has_none() {
    assert!(in_order("nothing: here", 1).is_empty());
    assert_eq!(short("odd"), "odd");
}
