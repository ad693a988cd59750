// Choosing a query token colours the documents by their similarities with it. Texts are only ever read from the page and
// written back as text; numbers come from data attributes.
(() => {
  const value = (milli) => (milli / 1000).toFixed(3).replace("-", "\u2212");

  function side(element) {
    const rows = JSON.parse(element.dataset.similarities);
    const kept = JSON.parse(element.dataset.kept || "null");
    const column = new Map((kept || (rows[0] || []).map((_, at) => at)).map((vector, at) => [vector, at]));
    const tokens = [...element.querySelectorAll(".cx-t")].map((node) => ({ node, vectors: node.dataset.v.split(" ").map(Number) }));
    const of = new Map();
    for (const token of tokens) for (const vector of token.vectors) of.set(vector, [...(of.get(vector) || []), token]);
    const at = (query, vector) => (column.has(vector) ? rows[query][column.get(vector)] : null);
    const name = (vector) => {
      const words = [];
      let last = null;
      for (const { node } of of.get(vector) || []) {
        if (last && last.nextSibling === node) words.push(words.pop() + node.textContent);
        else words.push(node.textContent);
        last = node;
      }
      const different = [...new Set(words)];
      return different.slice(0, 4).join(" · ").slice(0, 60) + (different.length > 4 ? " · …" : "") || `#${vector}`;
    };
    return { element, rows, column, tokens, of, at, name, low: +element.dataset.low, high: +element.dataset.high };
  }

  function start(root) {
    root.dataset.ready = "";
    const sides = [...root.querySelectorAll(".cx-document")].map(side);
    const readout = root.querySelector(".cx-readout");
    const idle = readout.textContent;
    const label = (query) => root.querySelector(`.cx-chip[data-q="${query}"] bdi, tr[data-q="${query}"] bdi`).textContent;
    let pinned = null;
    let shown = null;

    function say(...parts) {
      readout.replaceChildren(
        ...parts.map((part) => {
          if (typeof part === "string") return part;
          const bold = document.createElement("b");
          const isolated = document.createElement("bdi");
          isolated.textContent = part.text;
          bold.append(isolated);
          return bold;
        }),
      );
    }

    function ranked(part, query) {
      const vectors = [...part.column.keys()];
      return vectors.sort((a, b) => part.at(query, b) - part.at(query, a) || a - b).slice(0, 4);
    }

    function mark(query) {
      for (const element of root.querySelectorAll("[data-q]")) {
        const same = query !== null && +element.dataset.q === query;
        if (element.matches(".cx-chip")) element.setAttribute("aria-pressed", String(same));
        if (element.matches("tr")) element.classList.toggle("cx-on", same);
      }
    }

    function show(query) {
      if (query === shown) return;
      shown = query;
      mark(query);
      for (const node of root.querySelectorAll(".cx-best")) node.classList.remove("cx-best");
      if (query === null) {
        delete root.dataset.chosen;
        say(idle);
        return;
      }
      root.dataset.chosen = query;
      const said = [{ text: label(query) }, " is most similar to "];
      sides.forEach((part, number) => {
        for (const { node, vectors } of part.tokens) {
          const best = Math.max(...vectors.map((vector) => part.at(query, vector) ?? -Infinity)) / 1000;
          const strength = part.high > part.low ? Math.min(Math.max((best - part.low) / (part.high - part.low), 0), 1) : 0;
          node.style.setProperty("--q", strength.toFixed(2));
        }
        const [first, ...others] = ranked(part, query);
        if (first === undefined) return;
        for (const { node } of part.of.get(first) || []) node.classList.add("cx-best");
        if (number) said.push("; on the other side to ");
        said.push({ text: part.name(first) }, ` ${value(part.at(query, first))}`);
        if (sides.length === 1 && others.length) {
          said.push(", then ");
          others.forEach((vector, at) => said.push(at ? ", " : "", { text: part.name(vector) }, ` ${value(part.at(query, vector))}`));
        }
      });
      say(...said);
    }

    function pin(query) {
      pinned = pinned === query ? null : query;
      show(pinned);
      if (pinned === null) return;
      for (const part of sides) {
        const best = part.element.querySelector(".cx-best");
        const text = best && best.closest(".cx-text");
        if (!text || text.scrollHeight <= text.clientHeight) continue;
        text.scrollTop += best.getBoundingClientRect().top - text.getBoundingClientRect().top - text.clientHeight / 3;
      }
    }

    function point(node) {
      const part = sides.find((one) => one.element.contains(node));
      const vectors = node.dataset.v.split(" ").map(Number);
      for (const vector of vectors) for (const token of part.of.get(vector)) token.node.classList.add("cx-same");
      const vector = vectors[0];
      if (!part.column.has(vector)) return say({ text: part.name(vector) }, " is among the weakest: its similarities are not in this page");
      const queries = part.rows.map((_, query) => query).sort((a, b) => part.at(b, vector) - part.at(a, vector) || a - b);
      const chosen = pinned === null ? queries.slice(0, 3) : [pinned];
      const said = [{ text: part.name(vector) }, " has similarity "];
      chosen.forEach((query, at) => said.push(at ? ", " : "", `${value(part.at(query, vector))} with `, { text: label(query) }));
      say(...said);
    }

    function sort(header) {
      const at = [...header.parentNode.children].indexOf(header);
      const first = header.classList.contains("cx-right") ? "descending" : "ascending";
      const order = header.getAttribute("aria-sort") ? (header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending") : first;
      for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", order);
      const body = header.closest("table").tBodies[0];
      const key = (row) => row.children[at].dataset.value ?? row.children[at].textContent.trim();
      const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
      const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)));
      body.append(...(order === "ascending" ? rows : rows.reverse()));
    }

    root.addEventListener("pointerover", (event) => {
      if (event.pointerType === "touch") return;
      const query = event.target.closest("[data-q]");
      const token = event.target.closest(".cx-t[data-v]");
      for (const node of root.querySelectorAll(".cx-same")) node.classList.remove("cx-same");
      if (token) point(token);
      else if (query) show(+query.dataset.q);
      else {
        shown = shown === pinned ? NaN : shown; // the readout may still speak of a token
        show(pinned);
      }
    });
    root.addEventListener("pointerleave", () => {
      for (const node of root.querySelectorAll(".cx-same")) node.classList.remove("cx-same");
      shown = NaN;
      show(pinned);
    });
    root.addEventListener("focusin", (event) => {
      const query = event.target.closest("button[data-q]");
      if (query && query.matches(":focus-visible")) show(+query.dataset.q);
    });
    root.addEventListener("focusout", () => show(pinned));
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || shown === null) return;
      pinned = null;
      show(null);
    });
    root.addEventListener("click", (event) => {
      const mode = event.target.closest(".cx-mode");
      const header = event.target.closest("th:has(> button)");
      const query = event.target.closest("[data-q]");
      const token = event.target.closest(".cx-t[data-v]");
      if (mode) {
        root.dataset.mode = mode.dataset.mode;
        for (const other of root.querySelectorAll(".cx-mode")) other.setAttribute("aria-pressed", String(other.dataset.mode === mode.dataset.mode));
      } else if (header && header.closest("thead")) sort(header);
      else if (query) pin(+query.dataset.q);
      else if (token) point(token);
    });
  }

  for (const root of document.querySelectorAll(".colindex-match:not([data-ready])")) start(root);
})();
