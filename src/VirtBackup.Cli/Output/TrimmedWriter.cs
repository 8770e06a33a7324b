using System.Text;

namespace VirtBackup.Cli.Output;

/// <summary>Drops blanks at the ends of lines: tables pad their last column, and files need not.</summary>
internal sealed class TrimmedWriter(TextWriter inner) : TextWriter
{
    private int _blanks;

    public override Encoding Encoding => inner.Encoding;

    public override void Write(char value)
    {
        switch (value)
        {
            case ' ':
                _blanks++;
                return;
            case '\n' or '\r':
                _blanks = 0;
                break;
            default:
                for (; _blanks > 0; _blanks--)
                {
                    inner.Write(' ');
                }
                break;
        }
        inner.Write(value);
    }

    public override void Flush() => inner.Flush();
}
