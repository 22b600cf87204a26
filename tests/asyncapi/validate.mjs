// node validate.mjs FILE: parse an AsyncAPI 3 document with the parser of the AsyncAPI project.
//
// Every error and warning is printed with its place in the document. Exit status: 0 valid, 1 not, 2 not even tried.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning"]; // as the parser counts them; 2 and 3 are hints

const [file, ...rest] = process.argv.slice(2);
if (file === undefined || rest.length > 0) {
  console.error("usage: node validate.mjs FILE");
  process.exit(2);
}

let source;
try {
  source = await readFile(file, "utf8");
} catch (error) {
  console.error(`${file}: ${error.message}`);
  process.exit(2);
}

let version;
try {
  version = JSON.parse(source)?.asyncapi;
} catch (error) {
  console.error(`${file}: error: not JSON: ${error.message}`);
  process.exit(1);
}
if (typeof version !== "string" || !version.startsWith("3.")) {
  console.error(`${file}: error: an AsyncAPI 3 document is expected, and its "asyncapi" is ${JSON.stringify(version)}`);
  process.exit(1);
}

const { document, diagnostics } = await new Parser().parse(source, { source: file });

// The parser recommends a newer AsyncAPI version as soon as there is one; 3.0.0 is what Jetray promises.
const reported = diagnostics.filter(
  ({ severity, code }) => severity < SEVERITIES.length && code !== "asyncapi-latest-version",
);
for (const { severity, code, path, message } of reported) {
  console.error(`${file}: ${SEVERITIES[severity]}: ${path.join(".") || "(document)"}: ${message} [${code}]`);
}
const count = (wanted) => reported.filter(({ severity }) => SEVERITIES[severity] === wanted).length;
const errors = count("error");
const warnings = count("warning");

if (errors > 0 || document === undefined) {
  console.error(`${file}: not valid: ${errors} error(s), ${warnings} warning(s)`);
  process.exit(1);
}
const channels = document.channels().length;
const messages = document.allMessages().length;
const operations = document.allOperations().length;
console.log(
  `${file}: valid AsyncAPI ${version}: ${channels} channels, ${operations} operations, ${messages} messages, ` +
    `${warnings} warning(s)`,
);
