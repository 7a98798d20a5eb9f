// The states of a task, as they are called and drawn.
//
// In the order of `rules/states.py`; each has a shape of its own, as colour alone says too little.
export const STATES = {
  complete: { label: "complete", shape: "M3 8.5l3.5 3.5L13 4.5" },
  executing: { label: "executing", shape: "M5.5 3.5l7 4.5-7 4.5z", solid: true },
  following: {
    label: "following",
    shape:
      "M6 4.2a3.8 3.8 0 1 0 0 7.6a3.8 3.8 0 1 0 0-7.6M10 4.2a3.8 3.8 0 1 1 0 7.6a3.8 3.8 0 1 1 0-7.6",
  },
  failed: { label: "failed", shape: "M4 4l8 8M12 4l-8 8" },
  paused: { label: "paused", shape: "M5.5 3.5v9M10.5 3.5v9" },
  blocked: { label: "blocked", shape: "M4 3h8L8 8l4 5H4l4-5z" },
  unassigned: {
    label: "no worker",
    shape: "M5.3 5.8a2.7 2.7 0 1 1 4 2.3C8.4 8.7 8 9.2 8 10M8 13v.1",
  },
  scheduled: {
    label: "scheduled",
    shape: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M8 5v3l2 1.5",
  },
  ready: { label: "ready", shape: "M8 2.5L13.5 8 8 13.5 2.5 8z" },
};
