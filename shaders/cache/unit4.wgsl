// What one invocation moves: four words.

alias Unit = vec4<u32>;
