// The keys: j k and arrows move, Home End Page keys leap, Enter opens (rows are links), Escape closes, / searches.

const INPUTS = "input, select, textarea";

export function listenToKeys({ list, search, detail, moved, close }) {
  const by = (rows) => () => list.move(rows);
  const anywhere = { j: by(1), k: by(-1) };
  const inList = {
    ArrowDown: by(1),
    ArrowUp: by(-1),
    PageDown: () => list.move(list.page),
    PageUp: () => list.move(-list.page),
    Home: () => list.goTo(0),
    End: () => list.goTo(Infinity),
  };

  function escape(target) {
    if (target === search) {
      search.value = "";
      search.dispatchEvent(new Event("input"));
      list.focus();
    } else if (detail.id) close();
  }

  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (key === "Escape") return escape(target);
    const fromSearch = target === search && key === "ArrowDown";
    if (target.matches?.(INPUTS) && !fromSearch) return;
    const free = target === document.body || target.closest?.("#scroller") || fromSearch;
    const act = key === "/" ? () => search.focus() : (anywhere[key] ?? (free ? inList[key] : undefined));
    if (!act || document.getElementById("board").inert) return;
    event.preventDefault();
    act();
    if (key !== "/") moved();
  });
}
