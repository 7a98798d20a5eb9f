// Where on the page somebody is: `#tab?what it is asked to show`. A reload and the way back find it.
const parts = () => location.hash.slice(1).split("?");

// The tab that the URL names, if there is one.
export const tab = (tabs, otherwise) => (parts()[0] in tabs ? parts()[0] : otherwise);

// What one tab may read and write there.
export const of = (name) => ({
  read: () => new URLSearchParams(parts()[0] === name ? parts()[1] : ""),
  write(asked) {
    const query = asked.toString();
    history.replaceState(null, "", `#${name}${query && `?${query}`}`);
  },
});
