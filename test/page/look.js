// Look at a page in Chromium, in light and in dark, and print what was seen as JSON.
//
// node look.js CHROMIUM PAGE FOLDER: screenshots and a print go to FOLDER.

const {chromium} = require('playwright-core');
const {pathToFileURL} = require('url');
const path = require('path');

const [executablePath, page, folder] = process.argv.slice(2);
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'];

// What is on the page, as the browser understood it. Runs there.
function read() {
    const text = (element) => element === null ? null : element.textContent;
    const section = (element) => element.closest('section').id;
    const luminance = (color) => {
        const probe = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
        probe.fillStyle = color;
        probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3)
            .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => {
        const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (light + 0.05) / (dark + 0.05);
    };
    const root = getComputedStyle(document.documentElement);
    const color = (name) => root.getPropertyValue(name);

    return {
        charset: document.characterSet,
        title: document.title,
        hacked: window.hacked,
        elements: [...new Set([...document.querySelectorAll('*')].map((e) => e.localName))].sort(),
        attributes: [...new Set([...document.querySelectorAll('body, body *')].flatMap((e) => e.getAttributeNames()))].sort(),
        text: document.body.textContent,
        background: getComputedStyle(document.body).backgroundColor,
        currencies: [...document.querySelectorAll('section')].map((s) => s.id),
        tables: [...document.querySelectorAll('table')].map((table) => ({
            currency: section(table),
            caption: text(table.caption),
            head: [...table.tHead.rows[0].cells].map(text),
            rows: [...table.tBodies[0].rows].map((row) => [...row.cells].map(text)),
            scoped: [...table.querySelectorAll('th')].every((th) => th.scope),
        })),
        charts: [...document.querySelectorAll('main svg[role=img]')].map((svg) => ({
            currency: section(svg),
            title: text(svg.querySelector(':scope > title')),
            description: text(svg.querySelector(':scope > desc')),
            legend: [...svg.parentElement.querySelectorAll('.legend li')].map(text),
            parts: [...svg.querySelectorAll('rect, circle')].map((part) => ({
                title: text(part.querySelector('title')),
                name: part.localName,
                y: Number(part.getAttribute('cy') || part.getAttribute('y')),
                width: Number(part.getAttribute('width')),
                height: Number(part.getAttribute('height')),
            })),
        })),
        // text needs 4.5, what is no text 3
        contrasts: {
            text: Object.fromEntries(['--page', '--card'].flatMap((ground) => ['--ink', '--soft', '--c1'].map(
                (ink) => [`${ink} on ${ground}`, contrast(color(ink), color(ground))]))),
            heat: Object.fromEntries([...document.querySelectorAll('td[class^=h]')].map((cell) => [cell.className,
                contrast(getComputedStyle(cell).color, getComputedStyle(cell).backgroundColor)])),
            parts: Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8].map((n) => [`--c${n}`, contrast(color(`--c${n}`), color('--card'))])),
        },
    };
}

async function look(browser, colorScheme) {
    const context = await browser.newContext({colorScheme, viewport: {width: 1280, height: 1600}});
    const tab = await context.newPage();
    const seen = {console: [], requests: []};

    tab.on('console', (message) => seen.console.push(message.text()));
    tab.on('pageerror', (error) => seen.console.push(String(error)));
    tab.on('request', (request) => seen.requests.push(request.url()));
    await tab.goto(pathToFileURL(page).href, {waitUntil: 'load'});
    await tab.screenshot({path: path.join(folder, `${path.parse(page).name}-${colorScheme}.png`)});
    Object.assign(seen, await tab.evaluate(read));
    await tab.setViewportSize({width: 390, height: 800});
    seen.overflow = await tab.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth);
    await tab.pdf({path: path.join(folder, `${path.parse(page).name}-${colorScheme}.pdf`)});
    await context.close();
    return seen;
}

(async () => {
    const browser = await chromium.launch({executablePath, args});
    try {
        console.log(JSON.stringify({light: await look(browser, 'light'), dark: await look(browser, 'dark')}));
    } finally {
        await browser.close();
    }
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
