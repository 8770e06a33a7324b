namespace VirtBackup.Cli.Connection;

/// <summary>A controller's address: <c>host:port</c>, <c>192.0.2.1:7443</c>, <c>[2001:db8::1]:7443</c>.</summary>
internal static class ControllerAddress
{
    private static readonly System.Buffers.SearchValues<char> Forbidden = System.Buffers.SearchValues.Create("/?#@ \n");

    public static bool IsAddress(string text) => TryUri(text, out _);

    public static Uri ToUri(string text) =>
        TryUri(text, out var uri) ? uri : throw CommandFault.Usage($"'{text}' is not an address: write it as host:port.");

    private static bool TryUri(string text, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Uri? uri)
    {
        uri = null;
        return text.Length > 0
            && !text.AsSpan().ContainsAny(Forbidden)
            && char.IsAsciiDigit(text[^1]) && text.Contains(':', StringComparison.Ordinal)
            && Uri.TryCreate("https://" + text, UriKind.Absolute, out uri)
            && uri.Host.Length > 0 && uri.Port > 0;
    }
}
