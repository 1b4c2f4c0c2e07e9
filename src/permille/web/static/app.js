// Comforts only: every page works without this file.
"use strict";

for (const form of document.querySelectorAll("[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// A link that signs in needs no click; what only looks at links runs no script.
document.querySelector("[data-send]")?.requestSubmit();

// What is wider than its place is scrolled by keyboard too; what fits is no stop of the Tab key.
const places = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const place of document.querySelectorAll(".wide, pre")) places.observe(place);

// On a narrow screen the menu begins where one is.
for (const here of document.querySelectorAll(".top nav [aria-current], .tabs [aria-current]")) {
  const row = here.closest("ul, .tabs");
  row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.clientWidth) / 2;
}

// After a form was refused, the first wrong field is where to go on.
(document.querySelector("[aria-invalid=true]") || document.querySelector(".problem"))?.focus();

// "/" goes to the search, "g" and a letter to a page, as the menu says.
let going = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (search) { search.focus(); event.preventDefault(); }
  } else if (event.key === "g") {
    going = true;
    window.setTimeout(() => { going = false; }, 1500);
  } else if (going) {
    going = false;
    document.querySelector(`[data-key="${CSS.escape(event.key)}"]`)?.click();
  }
});
for (const link of document.querySelectorAll("[data-key]")) link.title = `Keys: g ${link.dataset.key}`;

// A part of a page that renews itself while its box is ticked.
for (const box of document.querySelectorAll("[data-live]")) {
  const renew = async () => {
    if (!box.checked || document.hidden) return;
    const answer = await fetch(window.location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(box.dataset.live);
    if (fresh) document.getElementById(box.dataset.live).replaceChildren(...fresh.childNodes);
  };
  box.closest("label").hidden = false;
  window.setInterval(renew, 2000);
}

// Rows are added to a form by copying its last one.
for (const button of document.querySelectorAll("[data-add]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const rows = document.querySelectorAll(button.dataset.add);
    const row = rows[rows.length - 1].cloneNode(true);
    for (const input of row.querySelectorAll("input")) input.value = "";
    rows[rows.length - 1].after(row);
    row.querySelector("input").focus();
  });
}

// What a number that is typed will be read as. The rule is docs/numbers.md; the server decides, and this only shows.
const GROUPS = /^[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*$/;
const ONE_GROUP = /^[1-9]\d{0,2}[.,]\d{3}$/;
const SPACED = /^[1-9]\d{0,2}(?:[ \u00a0\u2009\u202f'’]\d{3})+(?:[.,]\d+)?$/;

function plainNumber(text, whole) {
  let digits = text.trim().replace("−", "-");
  const sign = digits.startsWith("-") ? "-" : "";
  digits = digits.slice(sign.length);
  if (SPACED.test(digits)) return sign + digits.replace(/[^\d.,]/g, "").replace(",", ".");
  const at = Math.max(digits.lastIndexOf("."), digits.lastIndexOf(","));
  if (at < 0) return /^\d+$/.test(digits) ? sign + digits : "";
  let head = digits.slice(0, at);
  const tail = digits.slice(at + 1);
  if (whole && ONE_GROUP.test(digits)) return sign + head + tail;
  if (digits[at] === "," && ONE_GROUP.test(digits)) return [sign + head + tail, `${sign}${head}.${tail}`];
  if (digits.split(digits[at]).length > 2) return GROUPS.test(digits) ? sign + digits.replace(/[.,]/g, "") : "";
  if (/[.,]/.test(head)) {
    if (!GROUPS.test(head)) return "";
    head = head.replace(/[.,]/g, "");
  }
  return /^\d*$/.test(head) && /^\d+$/.test(tail) ? `${sign}${head || "0"}.${tail}` : "";
}

function moneyOf(input) {
  const other = input.form.elements.namedItem("pricing_unit")?.value;
  if (other && input.name !== "conversion_rate") return null;
  const chosen = input.form.elements.namedItem("amount_currency")?.value || input.dataset.currency;
  return chosen === input.dataset.currency ? input.dataset.symbol : `${chosen} `;
}

function understood(input) {
  const read = plainNumber(input.value, input.dataset.number === "whole");
  if (Array.isArray(read)) return `${input.value.trim()} can be read as ${read.join(" or as ")}. Type one of these.`;
  if (!read) return "";
  const [head, tail = ""] = read.replace("-", "").split(".");
  const grouped = head.replace(/^0+(?=\d)/, "").replace(/\B(?=(\d{3})+$)/g, ",");
  const symbol = input.dataset.currency ? moneyOf(input) : null;
  const digits = tail.replace(/0+$/, "").padEnd(symbol === null ? 0 : 2, "0");
  return `= ${read.startsWith("-") ? "−" : ""}${symbol || ""}${grouped}${digits ? `.${digits}` : ""}`;
}

document.addEventListener("input", ({ target }) => {
  const boxes = target.matches("select") ? target.form?.querySelectorAll("[data-number]") || [] : [target];
  for (const box of boxes) if (box.dataset.number) box.nextElementSibling.textContent = understood(box);
});

// A second click while the first is under way would do it twice. It may be sent again by the back button, or if nothing came of it.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  window.setTimeout(() => delete form.dataset.sent, 10000);
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("[data-sent]")) delete form.dataset.sent;
});
