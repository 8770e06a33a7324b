using CsCheck;

namespace VirtBackup.Tidy.Tests;

public sealed class CSharpCodeTests
{
    private static readonly string[] Literals =
    [
        "// bad \" ' /*\n", "/* bad \" ' // */", "/* bad\n * bad */", "\"bad\"", "\"bad \\\" // bad\"", "\"\"", "\"\\\\\"", "@\"bad \"\" bad \\\"", "@\"bad\nbad\"",
        "$\"bad {{bad}} bad\"", "$@\"bad \"\" {{\nbad\"", "@$\"bad\"", "'\"'", "'\\''", "'\\\\'", "'\\u0041'", "\"\"\"bad \" \"\" bad\"\"\"", "\"\"\"\"\n bad \"\"\" bad\n\"\"\"\"",
        "$\"\"\"bad \" bad\"\"\"", "$$\"\"\"bad {bad} bad\"\"\"", "\"bad\"u8",
    ];

    private static readonly string[] Interpolated =
    [
        "$\"bad {good} bad\"", "$\"bad {good:bad}\"", "$\"{good,5:bad} bad\"", "$@\"bad \"\" {good}\"", "$\"bad {(a ? \"bad\" : good)} bad\"", "$\"{F($\"bad {good} bad\")} bad\"",
        "$\"\"\"bad {good} \" bad\"\"\"", "$$\"\"\"bad {bad} {{good}} {{{good}}} bad\"\"\"", "$\"{global::good}bad\"", "$\"{new[] { good }[0]} bad {d[\"bad\"]} bad\"",
        "$\"{good switch { 1 => \"bad\", _ => '}' }} bad\"",
    ];

    private static readonly string[] Mixed = [.. Literals, .. Interpolated, "good", ";", "\n", "x == y", "{ good }"];

    public static TheoryData<string> AllLiterals => [.. Literals, .. Interpolated];

    [Theory, MemberData(nameof(AllLiterals))]
    public void Literals_are_blanked_and_code_stays(string literal)
    {
        var code = CSharpCode.Strip($"good = {literal} + good;\ngood();");
        Assert.DoesNotContain("bad", code);
        Assert.Equal(Count($"good = {literal} + good;\ngood();", "good"), Count(code, "good"));
    }

    [Fact]
    public void Directives_open_no_literal() => Assert.Contains("good", CSharpCode.Strip("#error it's \"odd\n  #pragma x '\ngood"));

    [Fact]
    public void Unclosed_text_ends_at_the_end()
    {
        foreach (var open in new[] { "/* bad", "\"bad", "@\"bad", "\"\"\"bad", "$\"bad {", "$\"{x:bad", "'", "'\\", "\"\\", "$$\"\"\"{{", "$", "@" })
        {
            Assert.DoesNotContain("bad", CSharpCode.Strip(open));
        }
    }

    [Fact]
    public void Any_mixture_keeps_code_offsets_and_lines() =>
        Gen.Int[0, Mixed.Length - 1].Select(index => Mixed[index]).Array[0, 30].Sample(
            parts =>
            {
                var text = string.Join(' ', parts);
                var code = CSharpCode.Strip(text);
                Assert.Equal(text.Length, code.Length);
                Assert.DoesNotContain("bad", code);
                Assert.Equal(Count(text, "good"), Count(code, "good"));
                for (var i = 0; i < text.Length; i++)
                {
                    Assert.True(code[i] == text[i] || (code[i] == ' ' && text[i] != '\n'), $"At {i} of: {text}");
                }
            },
            iter: 20_000);

    [Fact]
    public void Arguments_are_split_at_the_top_level() =>
        Assert.Equal(["F(1, 2)", "time", "a[1, 2]"], CodeRules.ArgumentsAt("G(F(1, 2), provider: time, a[1, 2]) + H(3)", 2));

    private static int Count(string text, string word) => text.Split(word).Length - 1;
}
