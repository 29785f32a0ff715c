// What one invocation moves: two words.

alias Unit = vec2<u32>;
