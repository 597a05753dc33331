'use strict';
// Loaded before the command when scripts/run.mjs starts it in a process group of its own. If the launcher is
// killed, nobody would pass on its end: then this process asks itself for an orderly stop.
const { isMainThread } = require('node:worker_threads');

const launcher = Number(process.env.REMIT_LAUNCHER_PID);
if (isMainThread && Number.isInteger(launcher) && launcher > 0) {
  delete process.env.REMIT_LAUNCHER_PID;
  const timer = setInterval(() => {
    if (process.ppid === launcher) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, 1_000);
  timer.unref();
}
