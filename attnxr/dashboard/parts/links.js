// Addresses of what is shown, to be copied. The server says the query; only the browser knows where the page is.
export function render({ model }) {
  const box = document.createElement("div")
  box.className = "links"
  let fields = []
  const build = ({ label, note }) => {
    const row = document.createElement("label")
    const name = document.createElement("span")
    const field = document.createElement("input")
    const meaning = document.createElement("span")
    name.className = "name"
    name.textContent = label
    field.readOnly = true
    field.setAttribute("aria-label", label)
    field.addEventListener("focus", () => field.select())
    meaning.className = "note"
    meaning.textContent = note
    row.append(name, field, meaning)
    box.append(row)
    return field
  }
  const draw = () => {
    if (fields.length !== model.links.length) {
      box.replaceChildren()
      fields = model.links.map(build)
    }
    model.links.forEach(({ words, query }, i) => {
      const address = `${location.origin}${location.pathname}${query && `?${query}`}`
      fields[i].value = words.replace("{address}", () => address)
    })
  }
  model.on("links", draw)
  draw()
  return box
}
