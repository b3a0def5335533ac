// Reads a diagram from standard input; prints its type, or says where it is wrong and ends with 1.
import fs from 'node:fs';
import { JSDOM } from 'jsdom';

// Mermaid cleans labels with DOMPurify, which wants a page.
const { window } = new JSDOM('');
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import('mermaid');

try {
    const { diagramType } = await mermaid.parse(fs.readFileSync(0, 'utf8'));
    console.log(diagramType);
} catch (error) {
    console.error(error.message);
    process.exit(1);
}
