// @ts-nocheck  the names of unfold's scripts are its globals
// Lets unfold run on Alpine's CSP build, which reads expressions instead of evaluating them: no
// page needs 'unsafe-eval'. That build knows no globals, and one expression of few words at a time.

htmx.config.allowEval = false;
htmx.config.includeIndicatorStyles = false; // an inline <style>

// What unfold's templates reach for outside of Alpine.
const reached = () => ({
  window: { location: { pathname: location.pathname, search: location.search } },
  localStorage: {
    getItem: (name) => localStorage.getItem(name),
    setItem: (name, value) => localStorage.setItem(name, value),
  },
  getCurrentTab,
  sortRecords,
  moveRecords,
  toggleSidebar() {
    this.sidebarDesktopOpen = !this.sidebarDesktopOpen;
    localStorage.setItem("sidebarDesktopOpen", this.sidebarDesktopOpen ? "1" : "0");
  },
  focusSearch() {
    this.openSearchResults = true;
    this.currentIndex = 0;
  },
  leaveSearch() {
    this.openSearchResults = false;
    const input = this.$refs.searchInput;
    if (input.value === "") input.blur();
    else input.value = "";
  },
});

// Those of its expressions that the build cannot read, and the same in words that it can.
const REWRITTEN = [
  [/^\s*activeTab = ([^;]*);[\s\S]*$/, "activeTab = $1"],
  [/^sidebarDesktopOpen = !sidebarDesktopOpen;[\s\S]*$/, "toggleSidebar()"],
  [/^openSearchResults = true; currentIndex = 0$/, "focusSearch()"],
  [/^openSearchResults = false; if [\s\S]*$/, "leaveSearch()"],
  [
    /^if \(!\$event\.metaKey && !\$event\.ctrlKey\) ([\s\S]*)$/,
    "$event.metaKey || $event.ctrlKey || $1",
  ],
  // As text it would be written into the style attribute.
  [/^'width: ' \+ changeListWidth \+ 'px'$/, "{width: changeListWidth + 'px'}"],
];

function rewrite(element) {
  for (const attribute of element.attributes) {
    if (!attribute.name.startsWith("x-")) continue;
    const found = REWRITTEN.find(([words]) => words.test(attribute.value));
    if (found)
      Alpine.mutateDom(() => {
        attribute.value = attribute.value.replace(...found);
      });
  }
}

document.addEventListener("alpine:init", () => {
  Alpine.data("theme", (first) => ({ ...theme(first), ...reached() }));
  Alpine.data("searchForm", searchForm);
  Alpine.data("searchDropdown", searchDropdown);
  Alpine.data("searchCommand", searchCommand);
  Alpine.interceptInit(rewrite);
});
