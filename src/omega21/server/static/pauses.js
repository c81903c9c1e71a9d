// Waiting that ends early: when the reader asks for it, comes back, or leaves for another run.

const sleepers = new Set();

// Ends every wait; tells whether there was one.
export function wake() {
  const sleeping = [...sleepers];
  for (const end of sleeping) end(true);
  return sleeping.length > 0;
}

// Waits; tells whether it was woken. Throws the signal's reason when that is given.
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
