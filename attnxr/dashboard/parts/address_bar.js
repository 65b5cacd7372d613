// Steps that follow each other as fast as this, as when a key is held down, are one entry in the history.
const ONE_STEP_MS = 250

export function render({ model }) {
  const own = new Set(model.names)
  // The first address tells what the page already shows, and so does the one after a step back: no new entries.
  let arriving = true
  let written = -Infinity

  const write = () => {
    const now = [...new URLSearchParams(location.search)]
    const ours = new URLSearchParams(model.query)
    const before = new URLSearchParams(now.filter(([name]) => own.has(name)))
    if (ours.toString() !== before.toString()) {
      const query = new URLSearchParams([...now.filter(([name]) => !own.has(name)), ...ours]).toString()
      const again = arriving || performance.now() - written < ONE_STEP_MS
      const address = location.pathname + (query && `?${query}`) + location.hash
      history[again ? "replaceState" : "pushState"](null, "", address)
      written = performance.now()
    }
    arriving = false
  }
  const follow = () => {
    arriving = true
    model.send_msg({ query: location.search })
  }
  model.on("query", write)
  window.addEventListener("popstate", follow)
  model.on("remove", () => window.removeEventListener("popstate", follow))
  if (model.query !== null) write()
  return document.createElement("span")
}
