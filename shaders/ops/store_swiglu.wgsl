// y = SiLU(gate) * up. The first half of a tile's rows are gate rows, the second half the up rows
// of the same indices (`MatrixLayout::GateUp`), so one invocation holds both.

fn store(tile: u32, token: u32, lane: u32, sums: array<f32, ROWS>) {
    for (var r = 0u; r < ROWS / 2u; r++) { // unroll
        let row = tile * (TILE_ROWS / 2u) + r * LANES + lane;
        if row < params.rows {
            let gate = sums[r];
            let up = sums[r + ROWS / 2u];
            y[token * params.y_stride + params.y_offset + row] = gate / (1.0 + exp(-gate)) * up;
        }
    }
}
