// y += sum: the residual connection.

fn store(tile: u32, token: u32, lane: u32, sums: array<f32, ROWS>) {
    for (var r = 0u; r < ROWS; r++) { // unroll
        let row = tile * TILE_ROWS + r * LANES + lane;
        if row < params.rows {
            let i = token * params.y_stride + params.y_offset + row;
            y[i] = y[i] + sums[r];
        }
    }
}
