using VirtBackup.Core;

namespace VirtBackup.Controller.Copies;

/// <summary>How copy stores and policies may be called: the name of a store is also that of a folder.</summary>
internal static class CopyNames
{
    /// <summary>What the repository is called among the places of copies.</summary>
    public const string Repository = "repository";

    private const int CharsMax = 63;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static void Validate(string name, string what)
    {
        if (name.Length is 0 or > CharsMax || !char.IsAsciiLetterLower(name[0]) && !char.IsAsciiDigit(name[0])
            || name.Any(static c => !char.IsAsciiLetterLower(c) && !char.IsAsciiDigit(c) && c is not ('.' or '-')))
        {
            throw new FaultException(
                FaultReason.InvalidArgument, $"The name of a {what} has 1 to {CharsMax} of a-z, 0-9, '.' and '-', and begins with a letter or digit; '{WireText.Shortened(name, CharsMax)}' does not.");
        }
    }
}
