// Ends a step: moves the committed length on, after everything that needs the old one.

struct FinishParams {
    all_rows: u32, // 1: every row of the step is committed (a prompt); 0: root and accepted nodes
}

struct Step {
    rows: u32,
    past: u32,
}

@group(0) @binding(0) var<uniform> params: FinishParams;
@group(0) @binding(1) var<storage, read_write> step: Step;
@group(0) @binding(2) var<storage, read> outcome: array<u32>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main() {
    step.past = step.past + select(outcome[0] + 1u, step.rows, params.all_rows == 1u);
}
