// Gives a function that may be called however often: `work` runs one at a time, `ms` at least from
// one begin to the next, and once more for what was asked meanwhile. It rests as long as it took, so
// a server that is slow is not asked by all who watch it at once and forever.
export function paced(work, ms) {
  let isBusy = false;
  let isStale = false;
  return async () => {
    isStale = true;
    if (isBusy) return;
    isBusy = true;
    while (isStale) {
      isStale = false;
      const begun = performance.now();
      await work();
      const took = performance.now() - begun;
      await new Promise((rested) => setTimeout(rested, Math.max(took, ms - took)));
    }
    isBusy = false;
  };
}

// For a tab that draws what it reads: `heard` reads it again within `ms`, however often it is
// called meanwhile, and `close` ends that.
export function soon(reload, ms) {
  let timer = 0;
  const again = () => {
    timer = 0;
    reload();
  };
  return {
    heard: () => {
      timer ||= setTimeout(again, ms);
    },
    close: () => clearTimeout(timer),
  };
}
