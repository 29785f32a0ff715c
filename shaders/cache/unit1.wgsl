// What one invocation moves: one word.

alias Unit = u32;
