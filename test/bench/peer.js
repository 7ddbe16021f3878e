// The peers that come from npm, on the same signed events.
//
// Usage: node peer.js migrate URL
//        node peer.js receive URL FILE SECRET IN_FLIGHT
//        node peer.js verify FILE SECRET
//
// receive lets stripe-sync-engine process the events, IN_FLIGHT at a time, and
// verify lets stripe-node check their signatures.  Both print the seconds.

'use strict';

const fs = require('fs');
const {StripeSync, runMigrations} = require('@supabase/stripe-sync-engine');
const Stripe = require('stripe');

function readEvents(file) {
  const data = fs.readFileSync(file);
  const events = [];
  for (let at = 0; at < data.length;) {
    const lineEnd = data.indexOf(10, at);
    const [signature, length] = data.toString('latin1', at, lineEnd).split(' ');
    const bodyEnd = lineEnd + 1 + Number(length);
    events.push({signature, payload: data.subarray(lineEnd + 1, bodyEnd)});
    at = bodyEnd + 1;
  }
  return events;
}

function print(began) {
  console.log((Number(process.hrtime.bigint() - began) / 1e9).toFixed(6));
}

async function receive(url, file, secret, inFlight) {
  const events = readEvents(file);
  const sync = new StripeSync({
    poolConfig: {connectionString: url, max: inFlight},
    stripeSecretKey: 'sk_live_unused',
    stripeWebhookSecret: secret,
    // nothing may leave the machine
    autoExpandLists: false,
    backfillRelatedEntities: false,
  });
  // as the other clients: connected before it begins
  await Promise.all(Array.from({length: inFlight}, () => sync.postgresClient.pool.query('SELECT 1')));

  let next = 0;
  const began = process.hrtime.bigint();
  await Promise.all(Array.from({length: inFlight}, async () => {
    while (next < events.length) {
      const {payload, signature} = events[next++];
      await sync.processWebhook(payload, signature);
    }
  }));
  print(began);
  await sync.close();
}

function verify(file, secret) {
  const events = readEvents(file);
  const {webhooks} = new Stripe('sk_live_unused');
  const began = process.hrtime.bigint();
  for (const {payload, signature} of events) {
    webhooks.constructEvent(payload, signature, secret);
  }
  print(began);
}

async function main([action, ...rest]) {
  if (action === 'migrate') {
    await runMigrations({databaseUrl: rest[0], schema: 'stripe'});
  } else if (action === 'receive') {
    await receive(rest[0], rest[1], rest[2], Number(rest[3]));
  } else {
    verify(rest[0], rest[1]);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
