// The engine's strip.
export function startStatus() {}
