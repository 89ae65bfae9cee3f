"use strict";
const data = JSON.parse(document.getElementById("runs").textContent);
const claims = [...document.querySelectorAll(".claim")].map(box => ({
  box, words: box.textContent.toLowerCase(), figure: box.dataset.figure,
  cells: [...box.querySelectorAll("[data-verdict]")].map(cell => cell.dataset) }));
const chips = [...document.querySelectorAll(".chips button")];
const field = name => document.getElementById(name);

function wanted() {
  return { words: field("search").value.toLowerCase().split(/\s+/).filter(Boolean), figure: field("figure").value,
    tier: field("tier").value, fixed: field("fixed").value,
    verdicts: chips.filter(chip => chip.ariaPressed === "true").map(chip => chip.dataset.verdict) };
}

// A verdict at some tier must have all of it, not one verdict this and another that.
function matches(claim, want, verdicts) {
  return want.words.every(word => claim.words.includes(word)) && (!want.figure || claim.figure === want.figure) &&
    claim.cells.some(cell => (!verdicts.length || verdicts.includes(cell.verdict)) &&
      (!want.tier || cell.tier === want.tier || !cell.tier) && (!want.fixed || cell.fixed === want.fixed));
}

function filter() {
  const want = wanted();
  const some = want.words.length || want.figure || want.tier || want.fixed || want.verdicts.length;
  document.body.classList.toggle("filtering", Boolean(some));
  let shown = 0;
  for (const claim of claims) {
    const match = matches(claim, want, want.verdicts);
    claim.box.classList.toggle("hidden", !match);
    shown += match;
  }
  for (const chip of chips)
    chip.querySelector("b").textContent = claims.filter(claim => matches(claim, want, [chip.dataset.verdict])).length;
  for (const fold of document.querySelectorAll("details.fold")) {
    const left = fold.querySelectorAll(".claim:not(.hidden)").length;
    fold.classList.toggle("hidden", !left);
    if (some) fold.open = left > 0;
    else if (!fold.querySelector(":target")) fold.open = false;
  }
  for (const section of document.querySelectorAll("main > section"))
    section.classList.toggle("hidden", Boolean(some) && !section.querySelector(".claim:not(.hidden)"));
  field("shown").textContent = some ? `${shown} of ${claims.length} claims` : `${claims.length} claims`;
  field("clear").hidden = !some;
}

const listed = text => text.split(" ").filter(Boolean).flatMap(range => {
  const [first, last = first] = range.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, step) => first + step);
});

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// The table of runs is made when it is asked for: there are thousands of them.
function evidence(box) {
  if (box.childElementCount) return;
  const of = data.of[box.dataset.of], rows = listed(box.dataset.runs).map(place => of.runs[place]);
  const columns = data.columns.map((name, place) => ({ name, place })).filter(({ place }) => rows.some(row => row[place] !== null));
  const table = element("table", undefined, box), head = element("tr", undefined, table.createTHead());
  for (const { name } of columns) element("th", name.replaceAll("_", " "), head).scope = "col";
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const { place } of columns) element("td", row[place] ?? "", line);
  }
  const settings = element("details", undefined, box);
  element("summary", "settings that all runs of the experiment share", settings);
  element("code", Object.entries(of.shared).map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(" "), settings);
  element("p", `They differ in: ${of.differs.join(", ")}.`, settings);
}

document.addEventListener("toggle", event => {
  if (event.target.open) event.target.querySelectorAll(":scope > dl .runs").forEach(evidence);
}, true);
for (const chip of chips) chip.addEventListener("click", () => { chip.ariaPressed = String(chip.ariaPressed !== "true"); filter(); });
for (const name of ["search", "figure", "tier", "fixed"]) field(name).addEventListener("input", filter);
field("clear").addEventListener("click", () => {
  for (const name of ["search", "figure", "tier", "fixed"]) field(name).value = "";
  for (const chip of chips) chip.ariaPressed = "false";
  filter();
  field("search").focus();
});

// A link to a claim opens what it is folded in, whatever is filtered.
function follow() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.classList.contains("hidden")) field("clear").click();
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", follow);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(fold => { fold.open = true; }));
if (matchMedia("(max-width: 40rem)").matches) document.querySelector("details.tool").open = false;
filter();
follow();
