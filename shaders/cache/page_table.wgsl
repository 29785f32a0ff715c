@group(0) @binding(TABLE_BINDING) var<storage, read> page_table: array<u32>; // [sequence, entry]
