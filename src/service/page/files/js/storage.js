// What a browser remembers: settings for good, and some for as long as the tab is open. A browser that forbids it forgets on a reload.

function storage(name) {
  const instead = new Map();
  const attempt = (use, otherwise) => {
    try {
      return use(window[name]);
    } catch {
      return otherwise();
    }
  };
  return {
    get: (key) => attempt((of) => of.getItem(key), () => instead.get(key)) ?? "",
    set: (key, text) => attempt((of) => (text ? of.setItem(key, text) : of.removeItem(key)), () => instead.set(key, text)),
  };
}

export const forGood = storage("localStorage");
export const ofTab = storage("sessionStorage");
