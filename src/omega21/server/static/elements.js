// Creation of elements. Text from the server is set as text content, never as markup.

export const byId = (id) => document.getElementById(id);

export function make(tag, { text, children = [], ...attributes } = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

export function facts(list, rows) {
  list.replaceChildren(
    ...rows.map(([name, value]) =>
      make("div", { children: [make("dt", { text: name }), make("dd", { text: value })] }),
    ),
  );
}

export function table(head, rows) {
  const line = (tag, cells, scope) =>
    make("tr", { children: cells.map((cell) => make(tag, { text: cell, scope })) });
  return make("table", {
    children: [
      make("thead", { children: [line("th", head, "col")] }),
      make("tbody", { children: rows.map((cells) => line("td", cells)) }),
    ],
  });
}

// A table that is created when it is opened, and updated only while it is open.
export class LazyTable {
  constructor(summary, read) {
    this.read = read;
    this.place = make("div", { class: "scroll", tabindex: "0", role: "region" });
    this.summary = make("summary");
    this.element = make("details", { class: "data", children: [this.summary, this.place] });
    this.element.addEventListener("toggle", () => this.refresh());
    this.name(summary);
  }

  name(summary) {
    this.summary.textContent = summary;
    this.place.setAttribute("aria-label", summary);
  }

  refresh() {
    if (this.element.open) this.place.replaceChildren(table(...this.read()));
  }
}
