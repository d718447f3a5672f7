// Runs one scenario against a running server: `node run.mjs NAME`.
//
// The server's URL comes in `SERVER_URL`, the path of Chromium in `CHROMIUM`. Standard input and
// output carry the talk with whoever started the server (see server.mjs); what went wrong is on
// standard error, and in the exit status.

/** A scenario that takes longer has got stuck where no wait of its own noticed. */
const SCENARIO_MS = 50_000;

function fail(error) {
  console.error(error?.stack ?? error);
  process.exit(1);
}

process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);
setTimeout(() => fail(new Error(`the scenario took longer than ${SCENARIO_MS} ms`)), SCENARIO_MS);

const { default: scenario } = await import(`./scenarios/${process.argv[2]}.mjs`);
await scenario();
process.exit(0);
