// Work that is repeated while a screen is shown.

/** Waits `pause` milliseconds and runs `work`, again and again until the signal aborts. Nothing runs while the page is hidden. */
export function repeat(signal, pause, work) {
  let timer;
  const wait = () => {
    if (!signal.aborted) timer = setTimeout(run, pause);
  };
  const run = async () => {
    if (!document.hidden) await work();
    wait();
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  wait();
}
