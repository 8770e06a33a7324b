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
        for (var at = 0; at <= text.Length;)
        {
            var sign = text.AsSpan(at).IndexOfAny('=', ',');
            string? key = null;
            if (sign > 0 && text[at + sign] == '=')
            {
                key = text[at..(at + sign)];
                at += sign + 1;
            }
            // QEMU doubles commas in values, and the first bare word is one.
            option.parts.Add((key, TakeValue(text, ref at, doubled: key is not null || option.parts.Count == 0)));
        }
        return option;
    }

    private static string TakeValue(string text, ref int at, bool doubled)
    {
        var value = new StringBuilder();
        for (; at < text.Length; at++)
        {
            if (text[at] == ',')
            {
                if (!doubled || at + 1 >= text.Length || text[at + 1] != ',')
                {
                    break;
                }
                at++;
            }
            value.Append(text[at]);
        }
        at++;
        return value.ToString();
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
