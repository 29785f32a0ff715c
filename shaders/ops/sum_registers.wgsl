// One slice: every invocation holds the whole sums of its rows.

fn finish(tile: u32, token0: u32, lane: u32, slice: u32, sums: Sums) {
    for (var t = 0u; t < TOKENS; t++) { // unroll
        if token0 + t < step.rows {
            var column: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) { // unroll
                column[r] = sums[r][t];
            }
            store(tile, token0 + t, lane, column);
        }
    }
}
