// Delays that can be ended early: by a click, a visible tab, or another run.

const sleepers = new Set();

// Ends every delay; returns whether there was one.
export function wake() {
  const sleeping = [...sleepers];
  for (const end of sleeping) end(true);
  return sleeping.length > 0;
}

// Waits; returns whether it was ended early. Throws the signal's reason on abort.
export async function pause(seconds, signal) {
  signal.throwIfAborted();
  let end;
  const over = new Promise((resolve) => {
    end = resolve;
  });
  const timer = setTimeout(end, seconds * 1000, false);
  const leave = () => end(false);
  sleepers.add(end);
  signal.addEventListener("abort", leave);
  try {
    return await over;
  } finally {
    clearTimeout(timer);
    sleepers.delete(end);
    signal.removeEventListener("abort", leave);
    signal.throwIfAborted();
  }
}
