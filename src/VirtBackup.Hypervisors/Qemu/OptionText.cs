using System.Text;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// QEMU's <c>key=value,key=value</c> option text (QEMU util/keyval and qemu-option): a comma inside a value is doubled;
/// a part without '=' is a bare word: the implied first key's value, or a flag.
/// </summary>
internal sealed class OptionText
{
    private readonly List<(string? Key, string Value)> parts = [];

    public static OptionText Parse(string text)
    {
        var option = new OptionText();
        var part = new StringBuilder();
        for (var i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && text[i] != ',')
            {
                part.Append(text[i]);
            }
            else if (i + 1 < text.Length && text[i + 1] == ',')
            {
                part.Append(',');
                i++;
            }
            else
            {
                option.Add(part.ToString());
                part.Clear();
            }
        }
        return option;
    }

    private void Add(string part)
    {
        var equals = part.IndexOf('=');
        // A bare first word may be a file name or an address; what looks like a key must be one.
        parts.Add(equals > 0 ? (part[..equals], part[(equals + 1)..]) : (null, part));
    }

    /// <summary>The bare first word: a device's driver, a chardev's backend.</summary>
    public string? Head => parts.Count > 0 && parts[0].Key is null ? parts[0].Value : null;

    public string? this[string key]
    {
        get => parts.LastOrDefault(part => part.Key == key).Value;
        set
        {
            parts.RemoveAll(part => part.Key == key && value is null);
            var at = parts.FindLastIndex(part => part.Key == key);
            if (at >= 0)
            {
                parts[at] = (key, value!);
            }
            else if (value is not null)
            {
                parts.Add((key, value));
            }
        }
    }

    public bool HasWord(string word) => parts.Exists(part => part.Key is null && part.Value == word);

    public bool IsOn(string key) => HasWord(key) || this[key] is "on" or "yes" or "true" or "y";

    /// <summary>Changes the values of all keys that <paramref name="change"/> gives another value for.</summary>
    public void Replace(Func<string, string, string?> change)
    {
        for (var i = 0; i < parts.Count; i++)
        {
            if (parts[i].Key is { } key && change(key, parts[i].Value) is { } value)
            {
                parts[i] = (key, value);
            }
        }
    }

    public void SetHead(string value)
    {
        if (Head is null)
        {
            parts.Insert(0, (null, value));
        }
        else
        {
            parts[0] = (null, value);
        }
    }

    public IEnumerable<(string? Key, string Value)> Parts => parts;

    public override string ToString() =>
        string.Join(',', parts.Select(part => (part.Key is null ? "" : part.Key + "=") + part.Value.Replace(",", ",,", StringComparison.Ordinal)));
}
