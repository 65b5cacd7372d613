export function render({ model }) {
  const row = document.createElement("div")
  row.className = "choices"
  const controls = new Map()

  const explain = (title, control, help) => {
    if (title.title === help) return
    title.title = help
    control.setAttribute("aria-description", help)
  }
  const build = ({ name, label, options }) => {
    const box = document.createElement("label")
    const title = document.createElement("span")
    const control = document.createElement(options ? "select" : "input")
    title.className = "name"
    title.textContent = label
    control.setAttribute("aria-label", label)
    if (options) {
      control.addEventListener("change", () => {
        const field = model.fields.find((other) => other.name === name)
        model.send_msg({ name, value: field.options[control.selectedIndex][0] })
      })
    } else {
      control.type = "checkbox"
      control.setAttribute("role", "switch")
      control.addEventListener("change", () => model.send_msg({ name, value: control.checked }))
    }
    box.className = options ? "select" : "switch"
    box.append(title, control)
    return { box, control, title }
  }
  const draw = () => {
    for (const [name, { box }] of controls) {
      if (model.fields.some((field) => field.name === name)) continue
      box.remove()
      controls.delete(name)
    }
    for (const [place, field] of model.fields.entries()) {
      if (!controls.has(field.name)) {
        controls.set(field.name, build(field))
        row.insertBefore(controls.get(field.name).box, row.children[place] ?? null)
      }
      const { control, title } = controls.get(field.name)
      control.disabled = field.disabled
      if (field.help) explain(title, control, field.help)
      if (field.options) {
        const names = field.options.map(([, text]) => text)
        const same = names.length === control.length && names.every((text, i) => control.options[i].text === text)
        if (!same) control.replaceChildren(...names.map((text) => new Option(text)))
        // What cannot be chosen says why.
        field.options.forEach(([, , refusal = ""], i) => {
          control.options[i].disabled = refusal !== ""
          control.options[i].title = refusal
        })
        control.selectedIndex = field.options.findIndex(([value]) => value === field.value)
      } else {
        control.checked = field.value
      }
    }
  }
  model.on("fields", draw)
  draw()
  return row
}
