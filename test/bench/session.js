'use strict';

// node session.js COUNT URL KEY: opens COUNT portal sessions one after another with
// Stripe's official client and prints the seconds that took, without the first one.

const Stripe = require('stripe');

async function main(count, url, key) {
    const {hostname, port} = new URL(url);
    const stripe = new Stripe(key, {host: hostname, port, telemetry: false});
    const open = () => stripe.billingPortal.sessions.create(
        {customer: 'cus_bench', return_url: 'https://app.example.com/account'});

    await open();
    const began = process.hrtime.bigint();
    for (let i = 0; i < count; i++) {
        await open();
    }
    console.log(Number(process.hrtime.bigint() - began) / 1e9);
}

main(Number(process.argv[2]), process.argv[3], process.argv[4]);
