// Several slices: their sums meet in workgroup memory and are added in ascending order. Then
// slice `s` stores the tokens s, s + SLICES, ...

var<workgroup> partial: array<f32, TOKENS * SLICES * TILE_ROWS>;

fn finish(tile: u32, token0: u32, lane: u32, slice: u32, sums: Sums) {
    for (var t = 0u; t < TOKENS; t++) {
        for (var r = 0u; r < ROWS; r++) {
            partial[(t * SLICES + slice) * TILE_ROWS + r * LANES + lane] = sums[r][t];
        }
    }
    workgroupBarrier(); // orders the partial sums before the reads below
    for (var t = slice; t < TOKENS; t += SLICES) {
        if token0 + t < step.rows {
            var column: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                var sum = 0.0;
                for (var s = 0u; s < SLICES; s++) {
                    sum += partial[(t * SLICES + s) * TILE_ROWS + r * LANES + lane];
                }
                column[r] = sum;
            }
            store(tile, token0 + t, lane, column);
        }
    }
}
